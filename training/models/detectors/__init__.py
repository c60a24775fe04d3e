"""Detectors of torchvision's kind: their names, trunks and heads, and their losses for each image."""
