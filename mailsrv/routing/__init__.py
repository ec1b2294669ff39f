"""Routing: which router decides about an address, and how (stage 5)."""
