"""Messages of programs on this machine, which need no host and no setuid program."""
