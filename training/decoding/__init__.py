"""From an image's bytes to pixels."""
