"""The resolver that a configuration asks for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from mailsrv.dns.resolver import Resolver
from mailsrv.dns.system import name_servers
from mailsrv.expansion.regex import compile_regex
from mailsrv.expansion.template import Template


def make_resolver(
    main: Any, reactor: Any, matcher: Callable[[Template], Callable[[str], Awaitable[bool]]]
) -> Resolver:
    """Return the resolver of the main options; ``matcher`` makes a test for a domain list."""
    pattern = main.dns_check_names_pattern
    only, again = main.dns_ipv4_lookup, main.dns_again_means_nonexist
    return Resolver(
        reactor,
        name_servers(main.dns_servers.source) if main.dns_servers else None,
        retransmit=main.dns_retrans,
        retries=main.dns_retry,
        names=compile_regex(pattern).search if pattern else None,
        ipv6=not main.disable_ipv6,
        ipv4_only=matcher(only) if only else None,
        again_means_nonexist=matcher(again) if again else None,
    )
