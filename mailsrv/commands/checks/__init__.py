"""What ``mailsrv check`` looks for: one file a kind of mistake, each with a function ``find``."""
