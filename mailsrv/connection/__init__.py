"""The SMTP server: connections, and the reception of messages."""
