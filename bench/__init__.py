"""Measurements; each says what it measured and on what."""
