"""Strings that ``-be`` of exim4 and mailsrv expand, each with its answer."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.real import machine


def marked(strings: Sequence[bytes]) -> bytes:
    """Each string on a line of its own, with one that tells where its answer ends."""
    return b"".join(b"%s\n@@%d@@\n" % (text, number) for number, text in enumerate(strings))


def answers(output: bytes, count: int) -> list[str]:
    """Return what was said to each of ``count`` marked strings."""
    text = re.sub(rb"(?m)^> ", b"", output)
    found, position = [], 0
    for number in range(count):
        mark = re.compile(rb"(?m)^@@%d@@\n" % number).search(text, position)
        assert mark is not None, f"no answer to string {number}: {text[position:][:200]!r}"
        found.append(text[position : mark.start()].removesuffix(b"\n").decode("latin-1"))
        position = mark.end()
    return found


def by_mailsrv(configuration: Path, strings: Sequence[bytes]) -> list[str]:
    """Return mailsrv's answers to strings."""
    said = subprocess.run(
        [sys.executable, "-m", "mailsrv", "-C", str(configuration), "-be"],
        input=marked(strings), capture_output=True, cwd=machine.CHECKOUT, check=True,
    )  # fmt: skip
    return answers(said.stdout, len(strings))
