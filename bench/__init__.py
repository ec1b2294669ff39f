"""How fast mailsrv is, beside real peers on the same machine: ``make bench``."""
