"""What each page shows, as plain values: the page and its JSON are made from the same."""
