"""Strings that ``-be`` of exim4 and mailsrv expand, each with its answer."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.real import machine, sandbox


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


def by_exim(folder: Path, strings: Sequence[bytes], name_server: str = "") -> list[str]:
    """Return exim4's answers to strings, with the configuration ``conf`` of a folder.

    It asks ``name_server``, if there is one, and not those of the machine.
    """
    program = sandbox.unpacked("exim4-daemon-heavy") / "usr/sbin/exim4"
    box = folder / "box"
    shutil.rmtree(box, ignore_errors=True)
    box.mkdir()
    (folder / "strings").write_bytes(marked(strings))
    made = sandbox.Sandbox(box, {"Debian-exim": 64901}, None)
    if name_server:
        (made.etc / "resolv.conf").write_text(f"nameserver {name_server}\n")
    command = made.command(
        ["sh", "-c", '"$1" -C "$2/conf" -be <"$2/strings"', "sh", program, folder]
    )
    return answers(machine.run(command).stdout, len(strings))
