"""Orthogonal matching pursuit with non-negative weights: one problem, many problems, a batch on a GPU."""
