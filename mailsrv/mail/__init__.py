"""The nouns: messages, addresses, outcomes, and what is known of a client."""
