"""The ``accept`` router (chapter 16)."""

from __future__ import annotations

from mailsrv.config.options import option
from mailsrv.config.types import BOOLEAN
from mailsrv.errors import ConfigError
from mailsrv.mail.routed import RoutedAddress
from mailsrv.routing.decision import Accepted, Decision
from mailsrv.routing.router import Context, Router


class Accept(Router):
    """Accepts every address that meets the preconditions."""

    log_as_local = option(
        BOOLEAN,
        default=True,
        help="log the local part alone",
        no_effect="log lines have the whole address",
    )

    def check(self) -> None:
        """See :meth:`OptionSet.check`."""
        super().check()
        if self.transport is None and not self.verify_only:
            problem = f"{self.name} router: transport must be set"
            raise ConfigError(problem, self.where, whole=True)

    async def route(self, address: RoutedAddress, context: Context) -> Decision:
        """See :meth:`Router.route`."""
        return Accepted()
