"""Redirection lists: their items, and that nothing in them breaks the parser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.mail.taint import Tainted, is_tainted
from mailsrv.routing.redirection import (
    Include,
    Malformed,
    Name,
    Place,
    Special,
    parse,
    read_said,
)


def kinds(text: str) -> list[str]:
    return [type(item).__name__ for item in parse(text)]


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("joe, jane@far.example", [Name("joe"), Name("jane", "far.example")]),
        ("joe\n# jane, bob\n,bob, # eve\nann", [Name("joe"), Name("bob"), Name("ann")]),
        ("\\joe, \\joe@far.example", [Name("joe", "", True), Name("joe", "far.example", True)]),
        ('"joe", "Doe, Joe" <joe@l.example>', [Name("joe"), Name("joe", "l.example")]),
        ('"a b"@far.example', [Name('"a b"', "far.example")]),
        ("|/bin/a b, /x/y , /x/", [Place("|/bin/a b"), Place("/x/y"), Place("/x/")]),
        ('"|/bin/a \\"b, c\\""', [Place('|/bin/a "b, c"')]),
        ("/s=a/o=b/@x400.example, |x@far.example",
         [Name("/s=a/o=b/", "x400.example"), Name("|x", "far.example")]),
        (":include:/a/b, :include: /c", [Include("/a/b"), Include("/c")]),
        (":blackhole:, :unknown:", [Special("blackhole"), Special("unknown")]),
        (":fail: gone, really\nmore", [Special("fail", "gone, really")]),
        (":defer:", [Special("defer")]),
        ("joe (the, man), (nobody)", [Name("joe")]),
        ("", []),
        ("# nothing", []),
        (" , ;\n", []),
    ],
)  # fmt: skip
def test_items(text: str, items: list[object]) -> None:
    assert list(parse(text)) == items


@pytest.mark.parametrize(
    "text", ["joe jane", "joe@", "@far.example", "<joe", "<>", "a: b;", ":FAIL: x",
             "joe@-x.example", "joe@x_y.example", '"joe', "joe@far.example.", "joe; jane",
             "joe # no comment"],
)  # fmt: skip
def test_malformed_items(text: str) -> None:
    assert kinds(text) == ["Malformed"]


def test_kinds_of_places() -> None:
    assert [Place(text).kind for text in ("|a", "/a", "/a/")] == ["pipe", "file", "directory"]


@pytest.mark.parametrize(
    ("item", "code", "enhanced", "text"),
    [
        (Special("fail", "gone"), 550, "5.1.1", "gone"),
        (Special("fail", "551 5.7.1 no"), 551, "5.7.1", "no"),
        (Special("fail", "551 no"), 551, "5.1.1", "no"),
        (Special("fail", "451 no"), 550, "5.1.1", "no"),
        (Special("fail", "550 4.7.1 no"), 550, "5.1.1", "no"),
        (Special("fail", "55 no"), 550, "5.1.1", "55 no"),
        (Special("defer", "450 4.2.1 busy"), 450, "4.2.1", "busy"),
        (Special("defer", "busy"), 451, "4.3.0", "busy"),
    ],
)
def test_codes(item: Special, code: int, enhanced: str, text: str) -> None:
    """A code may begin the text, if it is of the right class."""
    said = read_said(item)
    assert (said.status.code, said.status.enhanced, said.status.text) == (code, enhanced, text)
    assert said.default.code == (550 if item.word == "fail" else 451)


_PIECES = st.sampled_from(
    ["joe", "@", "far.example", ",", "\n", '"', "\\", "(", ")", "<", ">", "#", " ", ":fail:", ":",
     "/", "|", ":include:", ":blackhole:", ";", ".", "x", "\0", "\xff", "[", "]"]
)  # fmt: skip


@given(st.lists(_PIECES, max_size=40).map("".join) | st.text(max_size=60))
def test_anything_is_a_list(text: str) -> None:
    """No text raises; addresses have a local part, and no list in their domain."""
    for item in parse(text):
        if isinstance(item, Name):
            assert item.local_part
            assert not set(item.domain) & set(' ,\n"<>')
        elif isinstance(item, Place):
            assert item.text[0] in "|/"
        elif isinstance(item, Malformed):
            assert item.problem


@given(st.lists(st.from_regex(r"[a-z]{1,9}(@[a-z]{1,9}\.example)?", fullmatch=True), max_size=8))
def test_plain_addresses_come_back(addresses: list[str]) -> None:
    found = [item for item in parse(", ".join(addresses)) if isinstance(item, Name)]
    assert [f"{n.local_part}@{n.domain}".rstrip("@") for n in found] == addresses


def test_items_of_a_marked_text_are_marked() -> None:
    pipe, file, include = parse(Tainted("|/bin/x, /etc/x, :include:/x"))
    assert isinstance(pipe, Place) and isinstance(file, Place) and isinstance(include, Include)
    assert all(is_tainted(text) for text in (pipe.text, file.text, include.path))


def test_a_long_list_is_quick() -> None:
    """What is unbalanced costs no more than what is not."""
    for text in (
        '"' * 20_000,
        "(" * 20_000,
        "<" * 20_000,
        '"\\' * 10_000,
        "a " * 10_000,
        "joe," * 20_000,
    ):
        assert len(list(parse(text))) >= 0
