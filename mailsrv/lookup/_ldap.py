"""Queries to LDAP servers (specification 9.14 to 9.19), with ldap3, on threads.

A query is a URL (RFC 4516), preceded by settings such as ``user=``.  Servers are
tried in turn until one answers; bound connections are kept for the next query.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.arithmetic import whole
from mailsrv.expansion.errors import ExpansionError
from mailsrv.lookup._backing import Backing

T = TypeVar("T")

TIMEOUT = 10  # seconds for the network, if the query has no NETTIME
KEPT = 8  # idle connections
_SETTING = re.compile(r'[ \t\n]*([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))[ \t\n]*', re.DOTALL)
_URL = re.compile(r"(ldaps?|ldapi)://([^/?]*)(?:/([^?]*)(.*))?\Z", re.IGNORECASE | re.DOTALL)
_SCOPES = {"": "BASE", "base": "BASE", "one": "LEVEL", "sub": "SUBTREE"}
_NAMES = ("dereference", "nettime", "connect", "user", "pass", "referrals", "servers", "size",
          "time")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Query:
    """A query, with octets as the UTF-8 text that they are."""

    text: str
    scheme: str
    server: str  # "" = the default servers
    base: str
    attributes: tuple[str, ...]
    scope: str
    filter: str
    settings: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Query:
        """Read a query.

        :raises TemporaryFailure: it is malformed.
        """
        settings: dict[str, str] = {}
        rest = text.lstrip(" \t\n")
        while rest[:4].lower() != "ldap":
            found = _SETTING.match(rest)
            if found is None:
                raise deferred(text, "malformed parameter setting precedes LDAP URL")
            name = found[1].lower()
            if name not in _NAMES:
                raise deferred(text, f'unknown parameter "{found[1]}=" precedes LDAP URL')
            quoted = found[2]
            settings[name] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else found[3]
            rest = rest[found.end() :]
        url = _URL.match(rest)
        parts = (url[4] or "").split("?") if url else []
        if url is None or len(parts) > 5 or (parts[2:3] or [""])[0].lower() not in _SCOPES:
            raise deferred(text, f'ldap_url_parse: (error 8) parsing "{rest}"')
        parts += [""] * (5 - len(parts))
        attributes = tuple(_decoded(one) for one in parts[1].split(",") if one)
        return cls(
            text,
            url[1].lower(),
            _decoded(url[2]),
            _decoded(url[3] or ""),
            attributes,
            _SCOPES[parts[2].lower()],
            _decoded(parts[3]) or "(objectClass=*)",
            settings,
        )

    def number(self, name: str) -> int:
        """A setting in digits; 0 if there is none."""
        text = self.settings.get(name, "")
        if not text:
            return 0
        if not (text.isascii() and text.isdigit()):
            raise deferred(self.text, f"malformed parameter setting: {name}={text}")
        return whole(text)

    @property
    def nettime(self) -> int:
        """Seconds that the network may take."""
        return self.number("nettime") or self.number("connect") or TIMEOUT

    @property
    def user(self) -> str:
        """The DN to bind as."""
        return _decoded(self.settings.get("user", ""))

    @property
    def password(self) -> str:
        """The password to bind with."""
        return _utf8(self.settings.get("pass", ""))


def deferred(text: str, why: str) -> TemporaryFailure:
    """Return the failure of a query; a password in it is not told."""
    shown = re.sub(r'(?i)\bpass=("(?:[^"\\]|\\.)*"|\S*)', "pass=****", text)
    return TemporaryFailure(reason=f'lookup of "{shown}" gave DEFER: {why}')


def _utf8(text: str) -> str:
    return text.encode("latin-1", "replace").decode("utf-8", "replace")


def _decoded(text: str) -> str:
    return unquote(_utf8(text))


class Servers:
    """The servers that queries go to, and the connections that are kept."""

    def __init__(self, backing: Backing) -> None:
        self._backing = backing
        self._idle: list[tuple[tuple[str, str, str], Any]] = []
        self._lock = threading.Lock()

    def search(self, query: Query) -> list[tuple[str, dict[str, list[bytes]]]]:
        """Return the entries found, each with its DN; blocks.

        :raises TemporaryFailure: no server answers.
        """
        return self._each(query, self._search_at)

    def authenticates(self, query: Query) -> bool:
        """Tell whether a server lets the query's user in; blocks."""
        if not query.password:  # an unauthenticated bind would succeed (RFC 4513 5.1.2)
            return False
        return self._each(query, self._binds_at)

    def _each(self, query: Query, work: Callable[[Query, str], T]) -> T:
        listed = query.settings.get("servers") or self._backing.setting("ldap_default_servers", "")
        source = getattr(listed, "source", listed)
        from mailsrv.expansion.separated import split_list

        servers = [query.server] if query.server else [s for s in split_list(source) if s]
        failure: TemporaryFailure | None = None
        for server in servers or [""]:
            try:
                return work(query, server)
            except TemporaryFailure as error:
                failure = error
        assert failure is not None
        raise failure

    # --- one server ---

    def _search_at(self, query: Query, server: str) -> list[tuple[str, dict[str, list[bytes]]]]:

        key = (query.scheme + server, query.user, query.password)
        connection = self._take(key)
        for fresh in (False, True):  # a kept connection may be dead: once more with a new one
            if connection is None or fresh:
                connection = self._connected(query, server)
            try:
                connection.search(
                    query.base,
                    query.filter,
                    query.scope,
                    dereference_aliases=_dereference(query),
                    attributes=list(query.attributes) or ["*"],
                    size_limit=query.number("size"),
                    time_limit=query.number("time"),
                )
            except Exception as error:  # for a server's garbage it may be anything
                connection.strategy.close() if hasattr(connection.strategy, "close") else None
                if fresh:
                    raise deferred(query.text, f"{_shown(server)}: {error}") from None
                continue
            break
        assert connection is not None
        result = connection.result
        if result["description"] not in ("success", "noSuchObject", "sizeLimitExceeded",
                                         "timeLimitExceeded"):  # fmt: skip
            connection.unbind()
            why = f"ldap_search failed: {result['result']}, {result['description']}"
            raise deferred(query.text, why)
        entries = [
            (entry["dn"], dict(entry["raw_attributes"]))
            for entry in connection.response or ()
            if entry["type"] == "searchResEntry"
        ]
        self._keep(key, connection)
        return entries

    def _binds_at(self, query: Query, server: str) -> bool:
        connection = self._connected(query, server, bind=False)

        try:
            bound = bool(connection.bind())
        except Exception as error:  # for a server's garbage it may be anything
            raise deferred(query.text, f"{_shown(server)}: {error}") from None
        code = connection.result.get("result")
        connection.unbind()
        if not bound and code not in (32, 34, 48, 49, 50):  # no such object … invalid credentials
            raise deferred(query.text, f"failed to bind the LDAP connection to {_shown(server)}")
        return bound

    def _connected(self, query: Query, server: str, *, bind: bool = True) -> Any:
        """Open a connection, in TLS if it must be, and bind it."""
        import ldap3

        host, port = _place(query.scheme, server)
        if query.scheme == "ldapi" and not host.startswith("/"):
            raise deferred(query.text, f'ldapi requires an absolute path ("{host}" given)')
        try:
            if host.startswith("/"):
                from urllib.parse import quote

                where = ldap3.Server(f"ldapi://{quote(host, safe='')}", get_info=ldap3.NONE)
            else:
                where = ldap3.Server(
                    host,
                    port,
                    use_ssl=query.scheme == "ldaps",
                    tls=self._tls(),
                    get_info=ldap3.NONE,
                    connect_timeout=query.nettime,
                )
            connection = ldap3.Connection(
                where,
                user=query.user or None,
                password=query.password or None,
                authentication=ldap3.SIMPLE if query.user else ldap3.ANONYMOUS,
                receive_timeout=query.nettime,
                auto_referrals=query.settings.get("referrals", "follow") != "nofollow",
                raise_exceptions=False,
            )
            connection.open()
            tls = self._backing.setting("ldap_start_tls", False) and query.scheme == "ldap"
            if tls and not host.startswith("/") and not connection.start_tls():
                raise deferred(query.text, f"failed to initiate TLS with {_shown(server)}")
            if bind and not connection.bind():
                code = connection.result.get("result")
                raise deferred(
                    query.text,
                    f"failed to bind the LDAP connection to server {_shown(server)} - "
                    f"LDAP error {code}: {connection.result.get('description')}",
                )
        except TemporaryFailure:
            raise
        except Exception as error:  # for a server's garbage it may be anything
            raise deferred(
                query.text,
                f"failed to bind the LDAP connection to server {_shown(server)} - {error}",
            ) from None
        return connection

    def _tls(self) -> Any:
        import ssl

        import ldap3

        wanted = str(self._backing.setting("ldap_require_cert", "") or "").lower()
        checks = {"never": ssl.CERT_NONE, "allow": ssl.CERT_NONE, "try": ssl.CERT_OPTIONAL}
        option = self._backing.setting
        return ldap3.Tls(
            local_private_key_file=option("ldap_cert_key"),
            local_certificate_file=option("ldap_cert_file"),
            ca_certs_file=option("ldap_ca_cert_file"),
            ca_certs_path=option("ldap_ca_cert_dir"),
            validate=checks.get(wanted, ssl.CERT_REQUIRED),
        )

    def _take(self, key: tuple[str, str, str]) -> Any:
        with self._lock:
            for place, (known, connection) in enumerate(self._idle):
                if known == key:
                    del self._idle[place]
                    return connection
        return None

    def _keep(self, key: tuple[str, str, str], connection: Any) -> None:
        with self._lock:
            self._idle.append((key, connection))
            spare = self._idle[:-KEPT]
            del self._idle[:-KEPT]
        for _, old in spare:
            old.unbind()


def _place(scheme: str, server: str) -> tuple[str, int]:
    """Return host (or path of a socket) and port."""
    if server.startswith("/"):
        return server, 0
    host, colon, port = server.rpartition(":")
    if not colon or not port.isdigit() or ("]" in port):
        host, port = server, ""
    return host.strip("[]") or "localhost", int(port or (636 if scheme == "ldaps" else 389))


def _shown(server: str) -> str:
    host, port = _place("ldap", server)
    return host if host.startswith("/") else f"{host if server else 'NULL'}:{port}"


def _dereference(query: Query) -> str:
    words = {"": "NEVER", "never": "NEVER", "searching": "SEARCH", "finding": "BASE",
             "always": "ALWAYS"}  # fmt: skip
    word = query.settings.get("dereference", "").lower()
    return words.get(word, "NEVER")  # as Exim takes what it does not know


def data_of(entries: Sequence[tuple[str, dict[str, list[bytes]]]], query: Query) -> str | None:
    """Return entries as the lookup gives them (9.19); None if none has an attribute."""
    lines = []
    for _, attributes in entries:
        if len(query.attributes) == 1:
            values = [v for found in attributes.values() for v in found]
            if values:
                lines.append(_joined(values))
        else:
            pairs = [
                f'{name}="{_escaped(_joined(values))}"'
                for name, values in attributes.items()
                if values
            ]
            if pairs:
                lines.append(" ".join(pairs))
    return "\n".join(lines) if lines else None


def _joined(values: Sequence[bytes]) -> str:
    return ",".join(value.decode("latin-1").replace(",", ",,") for value in values)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def needs_both(query: Query) -> None:
    """Refuse a query for ``ldapauth`` without user and password.

    :raises ExpansionError: one is missing.
    """
    if "user" not in query.settings or "pass" not in query.settings:
        raise ExpansionError("ldapauth lookups must specify the username and password")
