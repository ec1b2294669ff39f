"""What ``verify`` can verify: addresses, the client's name, header fields (44.26, 44.45)."""
