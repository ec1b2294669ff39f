"""mailsrv: a mail server in Exim's model on Twisted's event loop."""

__version__ = "0.1.0"
