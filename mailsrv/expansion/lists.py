"""Domain, host, address and local part lists (specification chapter 10).

Interface (bodies to be written): each ``match_…`` expands the list in ``scope``
and returns a :class:`Match`, or None if the subject is not in the list.

:raises ExpansionError, LookupDeferred: as TemporaryFailure.
"""

from __future__ import annotations

from dataclasses import dataclass

from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import Template
from mailsrv.mail.origin import Origin


@dataclass(frozen=True, slots=True)
class Match:
    """A subject was in a list; ``data`` is $domain_data / $local_part_data (untainted), ``numbers`` $1…"""

    data: str = ""
    numbers: tuple[str, ...] = ()


class NamedLists:
    """The domainlist, hostlist, addresslist and localpartlist definitions, with their cache."""


async def match_domain(list: Template, domain: str, scope: Scope) -> Match | None: ...
async def match_local_part(list: Template, local_part: str, scope: Scope, *, caseful: bool = False) -> Match | None: ...
async def match_address(list: Template, address: str, scope: Scope, *, caseful: bool = False) -> Match | None: ...
async def match_host(list: Template, origin: Origin, scope: Scope) -> Match | None: ...
def split_list(text: str, separator: str = ":") -> list[str]: ...
