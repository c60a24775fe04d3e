"""Selections from signals: ask, find, compute, publish."""
