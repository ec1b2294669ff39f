"""``authresults``: what is known of the sender, for an Authentication-Results: line (RFC 8601)."""

from __future__ import annotations

import re

from mailsrv.expansion.items import item
from mailsrv.expansion.parse import Parser
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.tree import Lazy, Node, evaluate
from mailsrv.mail.taint import like

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@item("authresults")
def _authresults(parser: Parser) -> Node:
    (node,) = parser.arguments(1, 1, "authresults")

    async def run(scope: Scope) -> str:
        name = await evaluate(node, scope)
        values = [*_reverse(scope), *_login(scope)]
        return like("".join(["Authentication-Results: ", name, *values]), name, *values)

    return Lazy(run, waits=node.waits)


def _reverse(scope: Scope) -> list[str]:
    """The host's name, if it has been looked for (``iprev``)."""
    origin, connection = scope.origin, scope.connection
    if origin is None:
        return []
    if origin.host_name:
        said = [";\n\tiprev=pass (", origin.host_name, ")"]
    elif connection is not None and connection.host_lookup_deferred:
        said = [";\n\tiprev=temperror"]
    elif connection is not None and connection.host_lookup_failed:
        said = [";\n\tiprev=fail"]
    else:
        return []
    return [*said, " smtp.remote-ip=", origin.host_address] if origin.host_address else said


def _login(scope: Scope) -> list[str]:
    """Who has logged in (``auth``)."""
    origin = scope.origin
    if origin is None or not origin.authenticator:
        return []
    name = scope.connection.mechanism if scope.connection else ""
    said = [";\n\tauth=pass (", name or origin.authenticator, ") smtp.auth="]
    said.append(_in_line(origin.authenticated_id))
    if origin.authenticated_sender:
        said += [" smtp.mailfrom=", _in_line(origin.authenticated_sender)]
    return said


def _in_line(value: str) -> str:
    """A login's name may have been sent with line ends in it, and begins no header field."""
    return like(_CONTROL.sub("?", value), value)
