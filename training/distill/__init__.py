"""Distillation: a student learns what a teacher says, beside the truth."""
