"""Authentication of SMTP clients (specification chapters 33, 34 and 37)."""
