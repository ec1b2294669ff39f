"""Configurations as administrators write them: nothing false is said of them."""

from __future__ import annotations

import re
from pathlib import Path

from tests.commands.checks.case import CheckTestCase

_SECTION = re.compile(r"^\[(\w+)\]\n", re.MULTILINE)
_WHOLE = """\
@BASE@
@MAIN@
begin acl
acl_check_rcpt:
@RCPT@
acl_check_data:
@DATA@
@ACLS@
begin routers
@ROUTERS@
begin transports
@TRANSPORTS@
begin retry
@RETRY@
begin rewrite
@REWRITE@
begin authenticators
@AUTH@
"""
_USUAL = {"rcpt": "@BEFORE@\n@AFTER@", "routers": "@DNSLOOKUP@\n@LOCAL@"}


def parts(text: str) -> dict[str, str]:
    """The sections of one configuration."""
    _, *found = _SECTION.split(text)
    return dict(zip(found[::2], found[1::2], strict=True))


def configurations() -> list[str]:
    """All of ``sound.txt``, each whole."""
    text = (Path(__file__).parent / "sound.txt").read_text("ascii")
    first, *others = (parts(each) for each in text.split("----\n"))
    found = []
    for part in ({}, *others):
        whole = _WHOLE
        for values in (part, {**_USUAL, **first}):
            for name, value in values.items():
                whole = whole.replace(f"@{name.upper()}@\n", f"{value.rstrip()}\n")
        found.append(re.sub(r"(?m)^@[A-Z]+@$", "", whole))
    return found


class SoundTests(CheckTestCase):
    def test_nothing_is_found(self) -> None:
        whole = configurations()
        self.assertGreater(len(whole), 140)
        wrong = {text: found for text in whole if (found := self.found(text))}
        self.assertEqual(wrong, {})
