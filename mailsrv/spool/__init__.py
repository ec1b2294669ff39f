"""What survives a restart: messages, large bodies, retry hints."""
