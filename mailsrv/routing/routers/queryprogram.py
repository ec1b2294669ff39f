"""The ``queryprogram`` router (chapter 21): known, not built; what reaches it is deferred."""

from __future__ import annotations

from mailsrv.config.options import option
from mailsrv.config.types import COMMAND, EXPANDED_GROUP, EXPANDED_USER, STRING, TIME
from mailsrv.errors import ConfigError
from mailsrv.routing.router import Router


class Queryprogram(Router):
    """Would ask a program."""

    command = option(COMMAND, help="the program to ask")
    command_group = option(EXPANDED_GROUP, help="the group that it runs as")
    command_user = option(EXPANDED_USER, help="the user that it runs as")
    current_directory = option(STRING, default="/", help="where it runs")
    timeout = option(TIME, default=3600, help="how long it may take")

    def check(self) -> None:
        """See :meth:`OptionSet.check`."""
        super().check()
        for name in ("command", "command_user"):
            if name not in self.values:
                raise ConfigError(f"{self.name} router: {name} must be set", self.where)
