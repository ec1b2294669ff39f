"""Logins that can be overheard, and those that need no password."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from mailsrv.auth.authenticator import Authenticator
from mailsrv.auth.checkers.condition import YES
from mailsrv.commands.checks.braces import closing
from mailsrv.commands.checks.finding import Finding
from mailsrv.commands.checks.outside import CIPHER, Outside, Told
from mailsrv.commands.checks.strangers import strangers
from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigError
from mailsrv.expansion.conditions import boolean_lax
from mailsrv.expansion.template import Template, compile_string
from mailsrv.interfaces import AclPhase
from mailsrv.mail.taint import Tainted
from mailsrv.net.listen import ports

_IN_CLEAR = ("PLAIN", "LOGIN")
_UNKNOWN_USER = "nobody-has-this-name"
_SECRETS = ("server_secret", "server_spa_password")
_LDAPAUTH = re.compile(r"\bldapauth[ \t]*\{")
_JUDGES = re.compile(r"\b(?:ldapauth|pam|pwcheck|radius|saslauthd)[ \t]*\{")
_DRIVERS = ("plaintext", "external")  # whose server_condition alone decides


def find(configuration: Configuration) -> Iterator[Finding]:
    """Yield authenticators that offer a password's way in clear, or let a stranger in."""
    everybody = [
        Outside(configuration, stranger, AclPhase.HELO) for stranger in strangers(configuration)
    ]
    in_clear = [each for each in everybody if _is_clear(configuration, each)]
    for each in configuration.authenticators:
        if not isinstance(each, Authenticator) or not each.is_server():
            continue
        clear = each.mechanism in _IN_CLEAR
        if clear and any(_is_offered(each, outside, {}) for outside in in_clear):
            yield Finding(
                each.where,
                f"authenticator {each.name} offers {each.mechanism} without TLS: passwords cross "
                "the network in clear",
                "server_advertise_condition = ${if def:tls_in_cipher}",
            )
        for outside in everybody:
            if _is_offered(each, outside, {}) or _is_offered(each, outside, CIPHER):
                found = [*_without_password(each, outside), *_empty_secret(each, outside)]
                yield from found
                if found:
                    break


def _is_clear(configuration: Configuration, outside: Outside) -> bool:
    """Tell whether AUTH is offered to a stranger that has no TLS."""
    main = configuration.main
    hosts = main.auth_advertise_hosts
    if isinstance(hosts, Template) and outside.hosts(hosts) is Told.FALSE:
        return False
    try:
        listening = set(ports(main.daemon_smtp_ports or ""))
        encrypted = set(ports(main.tls_on_connect_ports or ""))
    except ConfigError:
        return True
    return outside.stranger.port not in encrypted and not (listening and listening <= encrypted)


def _is_offered(each: Authenticator, outside: Outside, tls: Mapping[str, str]) -> bool:
    """Tell whether a stranger is offered the mechanism, with TLS or without."""
    condition = each.server_advertise_condition
    if condition is None:
        return True
    text = outside.said(condition, outside.scope(values=tls), forced="")
    return boolean_lax(text or "") if not tls else text is None or boolean_lax(text)


def _lets_in(each: Authenticator, condition: Template, outside: Outside, password: str) -> bool:
    """Evaluate server_condition for a user that no lookup finds."""
    words = (Tainted(_UNKNOWN_USER), Tainted(password) if password else "")
    strings: tuple[str, ...] = ("", *words) if each.mechanism == "PLAIN" else words
    if each.driver == "external":
        strings = words[:1]
    values = {f"auth{number}": text for number, text in enumerate(strings, 1)}
    scope = outside.scope().within(values, ("", *strings))
    text = outside.said(condition, scope)
    return text is not None and text.lower() in YES


def _without_password(each: Authenticator, outside: Outside) -> Iterator[Finding]:
    condition = each.server_condition
    if each.driver not in _DRIVERS or condition is None:
        return
    where = condition.where or each.where
    refused = compile_string(_with_judges(condition.source, "no"), condition.where)
    if _lets_in(each, refused, outside, "any-password-will-do"):
        yield Finding(
            where,
            f"authenticator {each.name} lets an unknown user in with any password"
            + (", and without a certificate" if each.driver == "external" else ""),
            "let server_condition compare what proves who it is: see specification 34",
        )
        return
    password = {"PLAIN": ("auth3", "$3"), "LOGIN": ("auth2", "$2")}.get(each.mechanism)
    if (
        condition.constant is None
        and password is not None
        and not any(word in condition.source for word in (*password, "${acl", "acl{", "acl {"))
    ):
        yield Finding(
            where,
            f"authenticator {each.name} never looks at the password: any will do for a user",
            f"compare ${password[0]}: see specification 34",
        )
        return
    bound = compile_string(_with_judges(condition.source, "yes"), condition.where)
    if getattr(each, "server_allow_empty_password", False) and _lets_in(each, bound, outside, ""):
        why = "a lookup that finds nothing is empty, too, and so they are equal"
        if "pass=" in condition.source:
            why = "an LDAP server takes it as an unauthenticated bind (RFC 4513 5.1.2)"
        yield Finding(
            where,
            f"authenticator {each.name} lets an unknown user in with an empty password: {why}",
            "remove server_allow_empty_password, or begin server_condition with "
            "and{{!eq{$auth2}{}}...}",
        )


def _with_judges(source: str, word: str) -> str:
    """Return a condition in which those who are asked refuse, or LDAP servers agree."""
    for found in reversed(list((_LDAPAUTH if word == "yes" else _JUDGES).finditer(source))):
        end = closing(source, found.end() - 1)
        source = f"{source[: found.start()]}bool{{{word}}}{source[end + 1 :]}"
    return source


def _empty_secret(each: Authenticator, outside: Outside) -> Iterator[Finding]:
    """The secret of a user that no lookup finds."""
    for name in _SECRETS:
        secret = each.values.get(name)
        if not isinstance(secret, Template):
            continue
        user = Tainted(_UNKNOWN_USER)
        scope = outside.scope().within({"auth1": user}, ("", user))
        if outside.said(secret, scope) == "":
            yield Finding(
                secret.where or each.where,
                f"authenticator {each.name} lets an unknown user in with an empty password: a "
                f"lookup that finds nothing makes {name} empty",
                "end the lookup with fail: ${lookup{$auth1}...{$value}fail}",
            )
