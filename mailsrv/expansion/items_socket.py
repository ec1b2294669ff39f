"""The item ``readsocket``: what a peer answers on a socket (specification 11.5)."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from mailsrv.expansion.arithmetic import whole
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.items import item
from mailsrv.expansion.parse import Parser
from mailsrv.expansion.paths import as_path
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.separated import split_list
from mailsrv.expansion.times import interval
from mailsrv.expansion.tree import Lazy, Node, evaluate
from mailsrv.mail.taint import is_tainted

MOST = 1 << 20  # octets of an answer that are kept
DEFAULT = 5.0  # seconds for all of it


class _Failed(Exception):
    """No answer; the text says why."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The third argument: how long to wait, and how to talk."""

    timeout: float
    shutdown: bool
    tls: bool


@item("readsocket")
def _readsocket(parser: Parser) -> Node:
    """``{name}{request}{options}{end of line}{what to use after a failure}``."""
    nodes = parser.arguments(2, 4, "readsocket", end=False)
    instead = parser.braced() if len(nodes) == 4 and parser.peek() == "{" else None
    parser.skip_space()
    if not parser.take("}"):
        raise ExpansionError("missing '}' closing readsocket")

    async def run(scope: Scope) -> str:
        values = [await evaluate(node, scope) for node in nodes]
        name, request, options, ending = [*values, "", ""][:4]
        if is_tainted(name) and name.startswith("inet:"):
            raise ExpansionError(f"tainted host for readsocket is not permitted: '{name}'")
        name = as_path(name, "readsocket")
        wanted = _options(options)
        try:
            said = await scope.services.in_thread(_talk, name, request.encode("latin-1"), wanted)
        except _Failed as failure:
            if instead is None:
                raise ExpansionError(str(failure)) from None
            return await evaluate(instead, scope)
        text = said.decode("latin-1")
        return text if len(values) < 4 else text.replace("\n", ending)

    return Lazy(run, waits=True)


def _options(text: str) -> _Wanted:
    """Read a list: a time first, if anything."""
    time, *settings = split_list(text) or [""]
    return _Wanted(
        float(interval(time) or DEFAULT), "shutdown=no" not in settings, "tls=yes" in settings
    )


def _talk(name: str, request: bytes, wanted: _Wanted) -> bytes:
    """Connect, send, read to the end.  Blocks.

    :raises _Failed: any of these fails, or takes too long.
    """
    until = monotonic() + wanted.timeout
    with _connected(name, wanted.timeout) as peer:
        talking: socket.socket = peer
        try:
            if wanted.tls:
                talking = _secure(peer)
            if request:
                talking.sendall(request)
            if wanted.shutdown and not wanted.tls:
                with suppress(OSError):
                    talking.shutdown(socket.SHUT_WR)
            said = bytearray()
            while len(said) < MOST:
                left = until - monotonic()
                if left <= 0:
                    raise TimeoutError
                talking.settimeout(left)
                piece = talking.recv(65536)
                if not piece:
                    break
                said += piece
            return bytes(said[:MOST])
        except TimeoutError:
            raise _Failed("socket read timed out") from None
        except OSError as error:
            raise _Failed(f"socket of {name}: {error.strerror or error}") from None
        finally:
            if talking is not peer:
                talking.close()


def _connected(name: str, timeout: float) -> socket.socket:
    if not name.startswith("inet:"):
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(timeout)
        try:
            made.connect(name)
        except (OSError, ValueError) as error:
            made.close()
            problem = getattr(error, "strerror", None) or error
            raise _Failed(f"failed to connect to socket {name}: {problem}") from None
        return made
    host, colon, port = name[5:].rpartition(":")
    if not colon:
        raise _Failed(f"missing port for readsocket {name}")
    host = host.removeprefix("[").removesuffix("]")
    try:
        number = whole(port) if port.isdigit() else socket.getservbyname(port, "tcp")
        return socket.create_connection((host, number), timeout)
    except (OSError, ValueError, OverflowError) as error:
        problem = getattr(error, "strerror", None) or error
        raise _Failed(f"failed to connect to any address for {host}: {problem}") from None


def _secure(peer: socket.socket) -> ssl.SSLSocket:
    """As Exim: without asking for a certificate that can be verified."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(peer)
