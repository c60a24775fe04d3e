"""Flows over frames: a detector's pass, and Dataset Culling."""
