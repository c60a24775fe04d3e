"""Reports on Mainstream: what sharing, rates, budgets and votes are worth, and what a run saw."""
