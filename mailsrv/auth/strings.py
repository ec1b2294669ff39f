"""Gathers the strings of a plaintext mechanism (specification 34.3) and finds the password."""

from __future__ import annotations

from collections.abc import Sequence

from mailsrv.auth.authenticator import Dialogue
from mailsrv.mail.taint import Tainted, tainted
from mailsrv.wire.sasl import SaslError, split_strings

MOST = 20
"""Strings that are kept; Exim has as many numbered variables."""


async def gather(dialogue: Dialogue, prompts: Sequence[str]) -> tuple[Tainted, ...]:
    """Return the strings of the initial response and of the answers to the prompts left over.

    Prompt number n is used only while fewer than n strings are there.
    """
    strings: list[Tainted] = []

    def take(response: bytes) -> None:
        strings.extend(tainted(string) for string in split_strings(response))

    if dialogue.initial is not None:
        take(dialogue.initial)
    for number, prompt in enumerate(prompts, 1):
        if number > len(strings):
            take(await dialogue.ask(prompt.encode("latin-1")))
    return tuple(strings[:MOST])


def checked_plain(strings: tuple[Tainted, ...]) -> tuple[Tainted, ...]:
    """Refuse a PLAIN message with more than the two NULs of RFC 4616.

    :raises SaslError: there are more.
    """
    if len(strings) > 3:
        raise SaslError("malformed PLAIN message")
    return strings


def complete(strings: tuple[Tainted, ...], password: int) -> tuple[Tainted, ...]:
    """Return ``strings`` if the password's place (from 1) is among them, else none.

    A client that leaves a NUL out puts its password where the user's name belongs, and
    ``server_set_id`` would take it to the log.
    """
    return strings if len(strings) >= password else ()


def positions(mechanism: str, mentioned: int) -> tuple[int, int]:
    """Return where user name and password stand among the strings, counted from 1.

    PLAIN and LOGIN have their places.  For any other name the password is the
    last string that matters: number ``mentioned``; the user stands before it.
    """
    if mechanism == "PLAIN":
        return 2, 3
    if mechanism == "LOGIN":
        return 1, 2
    return max(mentioned - 1, 1), max(mentioned, 1)
