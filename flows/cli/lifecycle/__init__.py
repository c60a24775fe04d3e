"""`rm`, `restore` and `rename`, alike for every noun that has them."""
