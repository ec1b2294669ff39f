"""Sockets: addresses, ports, TLS, connections to other hosts, and threads."""
