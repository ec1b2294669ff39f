"""When delay warnings are due, and to what messages they are never sent."""

from __future__ import annotations

import pytest

from mailsrv.mail.header import Header
from mailsrv.mail.message import InlineBody, Message, Recipient
from mailsrv.mail.origin import Origin
from mailsrv.queue.warn import warnable, warnings_due

HOUR = 3600.0


@pytest.mark.parametrize(
    ("times", "hours", "due"),
    [
        ((24,), 23, 0),
        ((24,), 24, 1),
        ((24,), 47, 1),
        ((24,), 48, 2),
        ((24,), 72, 3),
        ((4, 8, 24), 5, 1),
        ((4, 8, 24), 23, 2),
        ((4, 8, 24), 24, 3),
        ((4, 8, 24), 39, 3),
        ((4, 8, 24), 40, 4),  # the last interval, 16 hours, is repeated
        ((), 100, 0),
        ((0,), 100, 0),
    ],
)
def test_due(times: tuple[int, ...], hours: int, due: int) -> None:
    """delay_warning's times, then the last interval again and again (specification 14.23)."""
    assert warnings_due([time * HOUR for time in times], hours * HOUR) == due


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("Subject: list", True),
        ("List-Id: <x>", False),
        ("List-Post:", True),
        ("Precedence: Bulk", False),
        ("Precedence: first-class", True),
        ("Auto-Submitted: auto-replied (vacation)", False),
        ("Auto-Submitted: no", True),
    ],
)
def test_warnable(header: str, wanted: bool) -> None:
    """Lists, bulk mail and automata are not warned."""
    message = Message(
        "1aaaaa-000000-00", "s@e", (Recipient("a@b"),), Origin(), [Header(header)],
        InlineBody(b""), 0.0,
    )  # fmt: skip
    assert warnable(message) is wanted
