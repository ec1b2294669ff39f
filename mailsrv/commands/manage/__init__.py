"""``mailsrv queue``: the queue for people, beside Exim's options."""
