"""Exim's string expansion language (specification chapters 10 and 11), compiled."""
