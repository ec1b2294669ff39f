"""The real exim4 and mailsrv expand the same strings to the same results, or the same errors.

``strings/*.txt``, a file for each topic, goes through ``-be`` of both.  The table of agreement is
printed; what differs must have its reason in ``KNOWN`` (docs/differences.md says more).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.real import machine, sandbox

HERE = Path(__file__).parent / "strings"
AGREEMENT = 0.995  # of what is compared
_SYNTAX = r"Failed: (?:curly-bracket|missing|syntax error|each subcondition|unknown|Too many)"

# A string, what mailsrv says, and why Exim says something else.
KNOWN = (
    (r"\$\{(?:dlfunc|perl)", r"Failed: \$\{(?:dlfunc|perl)\}: ", "refused: ${python{...}}"),
    (r"\$\{if !?pam", r"Failed: condition pam needs", "PAM needs the package python-pam"),
    (r"\$\{quote_redis", r"", "Debian's exim4 has no redis"),
    (r"\$\{xtextd", r"", "of a later Exim"),
    (r"\$\{(?:sort|env)", r"Failed: ", "Exim gives no reason"),
    (r"\$\{if !?match_.*\+", r"Failed: unknown named", "Exim gives no reason"),
    (r".*\{", _SYNTAX, "Exim expands what stands before a fault of syntax first"),
    (r"\$\{readfile\{/etc/hostname", r"", "exim4 runs where there is none"),
    (r"\$\{time_interval:9{18}", r"", "Exim cuts the number"),
    (r"\$\{acl\{c:a:b", r"", "Exim takes the text for an empty ACL"),
    (r"\$\{srs_encode", r"Failed: malformed address", "other words"),
)


@pytest.fixture
def folder() -> Iterator[Path]:
    made = machine.folder("strings")
    (made / "spool").mkdir()
    (made / "conf").write_text((HERE / "conf").read_text().replace("FOLDER", str(made)))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def _marked(strings: Sequence[bytes]) -> bytes:
    """Each string on a line of its own, with one that tells where its answer ends."""
    return b"".join(b"%s\n@@%d@@\n" % (text, number) for number, text in enumerate(strings))


def _answers(output: bytes, count: int) -> list[str]:
    text = re.sub(rb"(?m)^> ", b"", output)
    found, position = [], 0
    for number in range(count):
        mark = re.compile(rb"(?m)^@@%d@@\n" % number).search(text, position)
        assert mark is not None, f"no answer to string {number}: {text[position:][:200]!r}"
        found.append(text[position : mark.start()].removesuffix(b"\n").decode("latin-1"))
        position = mark.end()
    return found


def _topics() -> dict[str, list[bytes]]:
    return {path.stem: path.read_bytes().splitlines() for path in sorted(HERE.glob("*.txt"))}


def test_collection_is_large() -> None:
    assert len({text for texts in _topics().values() for text in texts}) >= 1500


def test_strings(folder: Path) -> None:
    """All but what is known to differ."""
    program = sandbox.unpacked("exim4-daemon-heavy") / "usr/sbin/exim4"
    (folder / "box").mkdir()
    box = sandbox.Sandbox(folder / "box", {"Debian-exim": 64901}, None)
    ask = 'for f in "$2"/*.in; do "$1" -C "$2/conf" -be <"$f" >"$f.out" 2>"$f.err"; done; true'
    topics = _topics()
    for topic, strings in topics.items():
        (folder / f"{topic}.in").write_bytes(_marked(strings))
    done = machine.run(box.command(["sh", "-c", ask, "sh", program, folder]))
    assert done.returncode == 0, done.stderr
    rows, compared, equal = [], 0, 0
    for topic, strings in topics.items():
        exim = _answers((folder / f"{topic}.in.out").read_bytes(), len(strings))
        said = subprocess.run(
            [sys.executable, "-m", "mailsrv", "-C", str(folder / "conf"), "-be"],
            input=_marked(strings), capture_output=True, cwd=HERE.parents[2], check=True,
        )  # fmt: skip
        ours = _answers(said.stdout, len(strings))
        same = sum(map(str.__eq__, exim, ours))
        print(f"{topic:12} {same} of {len(strings)} alike, {same / len(strings):.1%}")
        for text, theirs, mine in zip(strings, exim, ours, strict=True):
            why = _why(text.decode("latin-1"), mine) if theirs != mine else ""
            compared += not why
            equal += theirs == mine
            if theirs != mine:
                rows.append(
                    f"{why or 'UNKNOWN'}: {text!r}\n    exim4   {theirs!r}\n    mailsrv {mine!r}"
                )
    print("\n".join(sorted(rows)))
    print(f"{equal} of {compared} alike, {len(rows)} differ, for the reasons given")
    assert equal >= AGREEMENT * compared


def _why(text: str, ours: str) -> str:
    """The reason for which mailsrv may say something else; "" for none."""
    return next((why for a, b, why in KNOWN if re.match(a, text) and re.match(b, ours)), "")
