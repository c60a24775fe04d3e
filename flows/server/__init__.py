"""The Prefect server that flows run on: the configured one, or a temporary one of our own."""
