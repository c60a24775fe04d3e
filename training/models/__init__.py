"""Models: by name or a user's own, their weights as files."""
