"""Checkers for ``twisted.cred``: who judges credentials."""
