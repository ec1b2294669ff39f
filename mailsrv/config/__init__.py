"""exim.conf: reading it, and printing what is in force."""
