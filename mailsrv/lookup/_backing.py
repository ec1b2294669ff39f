"""What lookups that ask a server, or a main option, are made with beside the threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mailsrv.interfaces import IResolver


@dataclass(frozen=True, slots=True)
class Backing:
    """``settings`` are the main options; None where there are none (tests)."""

    resolver: IResolver | None = None
    settings: Any = None

    def resolver_within(self, retransmit: float, retries: int) -> IResolver | None:
        """The resolver, with this patience; 0 takes the options'."""
        if (retransmit or retries) and self.resolver is not None:
            return self.resolver.within(retransmit, retries)
        return self.resolver

    def setting(self, name: str, default: Any = None) -> Any:
        """The value of a main option."""
        value = getattr(self.settings, name, None)
        return default if value is None else value


NO_BACKING = Backing()
