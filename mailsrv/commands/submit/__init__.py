"""The parts of ``mailsrv-sendmail``: they import little, so that it starts quickly."""
