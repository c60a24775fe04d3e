"""AdaptSB: a search for the prioritisation function that trains best under a budget."""
