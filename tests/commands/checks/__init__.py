"""What each of the checks finds, and what it is silent about."""
