"""The command line of mailsrv: one module a command, imported when it is asked for."""
