"""The logs: what is said (``lines``), and where it is written (``files``, ``syslog``, ``json``)."""
