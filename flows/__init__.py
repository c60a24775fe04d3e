"""Prefect flows and the command line: they wire store, curation and training, and own retries, progress, schedules."""
