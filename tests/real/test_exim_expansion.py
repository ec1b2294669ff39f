"""The real exim4 and mailsrv expand the same strings to the same results, or the same errors.

``strings/*.txt``, a file for each topic, goes through ``-be`` of both.  The table of agreement is
printed; what differs must have its reason in ``KNOWN`` (docs/differences.md says more), and each
reason holds for exactly as many strings as it says.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.real import machine, sandbox
from tests.real.expanded import answers, by_mailsrv, marked

HERE = Path(__file__).parent / "strings"
_SYNTAX = r"Failed: (?:curly-bracket|missing|syntax error|each subcondition|unknown|Too many)"


class Known(NamedTuple):
    """Strings that have different results: how many, and why."""

    text: str
    exim: str
    ours: str
    count: int
    why: str


# Regular expressions for the string and for what each says of it; the first that fits counts.
KNOWN = (
    Known(r"\$\{if crypteq\{abc\}\{.\{nosuch", "Failed: .*xyz", 'Failed: .*h."$', 1,
          "a hash is not told"),
    Known(r"\$\{dlfunc", "Failed: dlopen", r"Failed: \$\{dlfunc\}: ", 9, "refused: ${python{...}}"),
    Known(r"\$\{perl", "Failed: A setting", r"Failed: \$\{perl\}: ", 6, "refused: ${python{...}}"),
    Known(r"\$\{if pam", "Failed: Critical error", "Failed: condition pam needs", 13,
          "PAM needs the package python-pam"),
    Known(r"\$\{quote_redis:", 'Failed: unknown lookup type "redis"', "(?!Failed)", 5,
          "Debian's exim4 has no redis"),
    Known(r"\$\{xtextd:", 'Failed: unknown expansion operator "xtextd"', "(?!Failed)", 6,
          "of a later Exim"),
    Known(r"\$\{sort", "Failed: $", "Failed: miss", 3, "Exim gives no reason"),
    Known(r"\$\{sort", "Failed: condition name expected", "Failed: (?:miss|comparator)", 3,
          "Exim takes what stands there for a condition"),
    Known(r"\$\{if match_.*\+", "Failed: unable to complete.*NULL", "Failed: unknown named", 8,
          "Exim gives no reason"),
    Known(r".*\{", r"Failed: (?!curly|syntax)", _SYNTAX, 24,
          "Exim expands what stands before a fault of syntax first"),
    Known(r"\$\{lookup\{root\}lsearch\{etc", "Failed: .*No such", "Failed: .*not an absolute", 1,
          "the reason"),
    Known(r"\$\{readfile\{/etc\}", "$", "Failed: .*Is a directory", 1, "Exim reads nothing"),
    Known(r"\$\{sort\{x:y\}\{<", "x:y", "Failed: integer expected", 1, "Exim goes on"),
    Known(r"\$\{rfc2047:aaaa", r"=\?UTF-8\?Q\?a{68}\?=", r"=\?UTF-8\?Q\?a{63}\?=", 1,
          "RFC 2047: a word has 75 characters at most"),
    Known(r"\$\{ipv6norm:::\}", ":$", "::$", 1, "Exim's is no address"),
    Known(r"\$\{time_interval:9{18}", "2748w", "Failed: .*is not a positive", 1,
          "Exim cuts the number"),
    Known(r"\$\{acl\{c:a:b", "$", "Failed: ERROR from acl", 1,
          "Exim takes the text for an empty ACL"),
    Known(r"\$\{srs_encode", "Failed: missing or m", "Failed: malformed address", 1, "other words"),
)  # fmt: skip


@pytest.fixture
def folder() -> Iterator[Path]:
    made = machine.folder("strings")
    (made / "spool").mkdir()
    (made / "conf").write_text((HERE / "conf").read_text().replace("FOLDER", str(made)))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def _topics() -> dict[str, list[bytes]]:
    return {path.stem: path.read_bytes().splitlines() for path in sorted(HERE.glob("*.txt"))}


def test_collection_is_large() -> None:
    assert len({text for texts in _topics().values() for text in texts}) >= 2800


def test_strings(folder: Path) -> None:
    """All but what is known to differ."""
    program = sandbox.unpacked("exim4-daemon-heavy") / "usr/sbin/exim4"
    (folder / "box").mkdir()
    box = sandbox.Sandbox(folder / "box", {"Debian-exim": 64901}, None)
    ask = 'for f in "$2"/*.in; do "$1" -C "$2/conf" -be <"$f" >"$f.out" 2>"$f.err"; done; true'
    topics = _topics()
    for topic, strings in topics.items():
        (folder / f"{topic}.in").write_bytes(marked(strings))
    done = machine.run(box.command(["sh", "-c", ask, "sh", program, folder]))
    assert done.returncode == 0, done.stderr
    unexplained, found = [], dict.fromkeys(KNOWN, 0)
    for topic, strings in topics.items():
        exim = answers((folder / f"{topic}.in.out").read_bytes(), len(strings))
        ours = by_mailsrv(folder / "conf", strings)
        same = sum(map(str.__eq__, exim, ours))
        print(f"{topic:12} {same} of {len(strings)} alike, {same / len(strings):.1%}")
        for text, theirs, mine in zip(strings, exim, ours, strict=True):
            if theirs != mine:
                known = _known(text.decode("latin-1"), theirs, mine)
                row = f"{text!r}\n    exim4   {theirs!r}\n    mailsrv {mine!r}"
                print(f"{known.why if known else 'UNKNOWN'}: {row}")
                if known:
                    found[known] += 1
                else:
                    unexplained.append(row)
    assert unexplained == [], "\n".join(unexplained)
    counts = {known: known.count for known in KNOWN}
    assert found == counts, "another number of strings differs for a known reason"


def _known(text: str, theirs: str, ours: str) -> Known | None:
    """The reason for which mailsrv may say something else."""
    for known in KNOWN:
        said = ((known.text, text), (known.exim, theirs), (known.ours, ours))
        if all(re.match(pattern, one) for pattern, one in said):
            return known
    return None
