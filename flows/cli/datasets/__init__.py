"""What commands of `tamis dataset` share, and those of its parts that are their own."""
