"""Read-only SQL over the tables, and its answers in forms that others read."""
