"""Logins that can be overheard, and one that needs no password."""

from __future__ import annotations

from collections.abc import Iterator

from mailsrv.auth.authenticator import Authenticator
from mailsrv.commands.checks.finding import Finding
from mailsrv.commands.checks.outside import Outside, Told
from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigError
from mailsrv.expansion.template import Template
from mailsrv.mail.taint import Tainted
from mailsrv.net.listen import ports

_IN_CLEAR = ("PLAIN", "LOGIN")
_UNKNOWN_USER = "nobody-has-this-name"


def find(configuration: Configuration) -> Iterator[Finding]:
    """Yield authenticators that offer a password's way in clear, or pass an empty password."""
    outside = Outside(configuration)
    everywhere = _told(configuration.main.auth_advertise_hosts) or _always_tls(configuration)
    for each in configuration.authenticators:
        if not isinstance(each, Authenticator) or not each.is_server():
            continue
        if each.mechanism in _IN_CLEAR and not (
            everywhere or _told(each.server_advertise_condition)
        ):
            yield Finding(
                each.where,
                f"authenticator {each.name} offers {each.mechanism} without TLS: passwords cross "
                "the network in clear",
                "server_advertise_condition = ${if def:tls_in_cipher}",
            )
        yield from _empty_password(each, outside)


def _told(template: Template | None) -> bool:
    """Tell whether a string depends on TLS, or offers to nobody."""
    if template is None:
        return False
    text = template.source.strip()
    return "tls_" in text or text in ("", "false", "no", "0")


def _always_tls(configuration: Configuration) -> bool:
    main = configuration.main
    try:
        listening = set(ports(main.daemon_smtp_ports or ""))
        encrypted = set(ports(main.tls_on_connect_ports or ""))
    except ConfigError:
        return False
    return bool(listening) and listening <= encrypted


def _empty_password(each: Authenticator, outside: Outside) -> Iterator[Finding]:
    """Evaluate server_condition for a user that no lookup finds, without a password."""
    condition = each.server_condition
    if each.driver != "plaintext" or condition is None:
        return
    if not getattr(each, "server_allow_empty_password", False):
        return  # refused before the condition is looked at
    user = Tainted(_UNKNOWN_USER)
    strings = ("", user, "") if each.mechanism == "PLAIN" else (user, "")
    before = outside.scope
    values = {f"auth{number}": text for number, text in enumerate(strings, 1)}
    outside.scope = before.within(values, ("", *strings))
    told = outside.condition(condition)
    outside.scope = before
    if told is Told.TRUE:
        yield Finding(
            condition.where or each.where,
            f"authenticator {each.name} lets an unknown user in with an empty password: a lookup "
            "that finds nothing is empty, too, and so they are equal",
            "remove server_allow_empty_password, or begin server_condition with "
            "and{{!eq{$auth2}{}}…}",
        )
