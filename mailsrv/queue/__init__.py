"""When a queued message is attempted, and what is reported of it."""
