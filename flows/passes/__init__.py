"""Flows that have models look at every sample: `score`, and how a pass is cut into tasks."""
