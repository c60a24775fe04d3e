"""Commands about boxes."""
