"""shadow_transport: a copy for another local transport, whatever becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailsrv.mail.routed import Result
from mailsrv.transport.transports.appendfile import Appendfile
from mailsrv.transport.transports.lmtp import Lmtp
from mailsrv.transport.transports.smtp import Smtp
from tests.doubles.nexthop import NextHop
from tests.transport.helpers import World, make, message, routed


def world(tmp_path: Path, hop: NextHop | None = None, **options: str) -> World:
    copy = make(Appendfile, "copy", file=f"{tmp_path}/copy", shadow_transport="t")
    main = make(Lmtp, socket="/x", **{"shadow_transport": "copy", **options})
    return World(main, copy, make(Smtp, "remote"), hop=hop or NextHop(lmtp=True))


def test_what_is_delivered_is_copied(tmp_path: Path) -> None:
    """Once: a shadow has no shadow."""
    w = world(tmp_path)
    (outcome,) = w.deliver(message(), routed("a@e"))
    assert (outcome.result, outcome.shadow) == (Result.DELIVERED, "copy")
    assert b"Hello" in (tmp_path / "copy").read_bytes()
    assert len(w.hop.messages) == 1


def test_what_is_not_delivered_is_not(tmp_path: Path) -> None:
    w = world(tmp_path, NextHop(lmtp=True, final=b"450 no\r\n"))
    (outcome,) = w.deliver(message(), routed("a@e"))
    assert (outcome.result, outcome.shadow) == (Result.DEFERRED, "")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("name", ["copy", "nosuch", "remote"])
def test_a_shadow_that_fails_changes_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    w = world(tmp_path, shadow_transport=name)
    (outcome,) = w.deliver(message(), routed("a@e"))
    assert outcome.result is Result.DELIVERED
    assert outcome.shadow.startswith(f"{name} (")


@pytest.mark.parametrize(
    ("condition", "copied", "panics"),
    [
        ("yes", 1, 0),
        ("0", 0, 0),
        ("False", 0, 0),
        ("${if eq{1}{2}{x}fail}", 0, 0),
        ("${nosuch}", 0, 1),
    ],
)
def test_condition(condition: str, copied: int, panics: int, tmp_path: Path) -> None:
    w = world(tmp_path, shadow_condition=condition)
    (outcome,) = w.deliver(message(), routed("a@e"))
    assert outcome.result is Result.DELIVERED
    assert (tmp_path / "copy").exists() == bool(copied)
    assert len([event for event, _ in w.log.events if event == "panic"]) == panics
