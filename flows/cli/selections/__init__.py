"""Commands that make selections, look at them, and read by them."""
