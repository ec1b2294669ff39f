"""Conditions that ask another service for its judgement: ``saslauthd`` and ``pam``."""

from __future__ import annotations

import importlib
import socket
from typing import Any

from mailsrv.expansion.conditions import reads
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.parse import Parser
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.separated import split_list
from mailsrv.expansion.tree import Condition, Verdict, evaluate

SASLAUTHD = "/var/run/saslauthd/mux"
SERVICE = "exim"  # what PAM and saslauthd know the caller as
PATIENCE = 10.0  # seconds for an answer
_LONGEST = 65535  # octets of a string that saslauthd takes


@reads("saslauthd")
def _saslauthd(parser: Parser, name: str) -> Condition:
    """``{{user}{password}{service}{realm}}``, of which the last two may be missing."""
    few = f"too few arguments or bracketing error for {name}"
    parser.skip_space()
    if not parser.take("{"):
        raise ExpansionError(f'missing {{ after "{name}"')
    try:
        nodes = parser.arguments(2, 4, name)
    except ExpansionError as error:
        reason = few if "Not enough" in error.reason else error.reason
        raise ExpansionError(reason, error.at) from None

    async def test(scope: Scope) -> Verdict:
        strings = [await evaluate(node, scope) for node in nodes]
        return await scope.services.in_thread(_ask_saslauthd, SASLAUTHD, strings), scope

    return Condition(test, waits=True)


def _ask_saslauthd(path: str, strings: list[str]) -> bool:
    """Ask Cyrus SASL's daemon: counted strings there, "OK" or "NO" back.  Blocks.

    :raises ExpansionError: it does not answer.
    """
    user, password, service, realm = [*strings, "", ""][:4]
    counted = b""
    for text in (user, password, service or SERVICE, realm):
        octets = text.encode("latin-1")
        if len(octets) > _LONGEST:
            return False
        counted += len(octets).to_bytes(2, "big") + octets
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(PATIENCE)
        try:
            peer.connect(path)
        except OSError as error:
            problem = f"cannot connect to saslauthd daemon at {path}: {error.strerror or error}"
            raise ExpansionError(problem) from None
        try:
            peer.sendall(counted)
            said = b""
            while len(said) < 4 and (more := peer.recv(4 - len(said))):
                said += more
        except OSError as error:
            raise ExpansionError(f"saslauthd: {error.strerror or error}") from None
    if said[2:4] not in (b"OK", b"NO"):
        raise ExpansionError("saslauthd: its answer is not complete")
    return said[2:4] == b"OK"


@reads("pam")
def _pam(parser: Parser, name: str) -> Condition:
    """A list of the user's name and what PAM's questions are answered with (11.7)."""
    parser.skip_space()
    if parser.peek() != "{":
        raise ExpansionError(f'missing {{ after "{name}"')
    node = parser.braced()

    async def test(scope: Scope) -> Verdict:
        answers = split_list(await evaluate(node, scope))
        return await scope.services.in_thread(_ask_pam, answers), scope

    return Condition(test, waits=True)


def _ask_pam(answers: list[str]) -> bool:
    """Blocks.  :raises ExpansionError: there is no way to ask PAM."""
    try:
        library: Any = importlib.import_module("pam")
    except ImportError:
        raise ExpansionError(
            "condition pam needs the package python-pam, which is not installed"
        ) from None
    if len(answers) < 2 or not answers[0]:
        return False
    return bool(library.pam().authenticate(answers[0], answers[1], service=SERVICE))
