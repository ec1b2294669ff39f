"""Quotas of Maildirs: which files count, and with which size."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailsrv.mail.routed import Result
from mailsrv.transport.maildirsize import Quota
from mailsrv.transport.transports.appendfile import Appendfile
from tests.transport.helpers import World, make, message, routed


@pytest.fixture
def box(tmp_path: Path) -> Path:
    for name in ("cur", "new", "tmp", ".Sent/cur", ".Sent/new", "attic/cur"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "new/1.a").write_bytes(b"x" * 100)
    (tmp_path / "cur/2.b,S=5000:2,S").write_bytes(b"x" * 10)
    (tmp_path / ".Sent/cur/3.c").write_bytes(b"x" * 200)
    (tmp_path / "tmp/4.d").write_bytes(b"x" * 100000)
    (tmp_path / "attic/cur/5.e").write_bytes(b"x" * 100000)
    return tmp_path


@pytest.mark.parametrize(
    ("quota", "full"),
    [
        (Quota(), False),
        (Quota(size=360), False),  # 100 + 10 + 200 and the message's 50
        (Quota(size=359), True),
        (Quota(size=311, inclusive=False), False),
        (Quota(size=310, inclusive=False), True),
        (Quota(size=5350, size_regex=r",S=(\d+)"), False),
        (Quota(size=5349, size_regex=r",S=(\d+)"), True),
        (Quota(size=160, directory_regex="^(?:cur|new)$"), False),
        (Quota(size=159, directory_regex="^(?:cur|new)$"), True),
        (Quota(count=4), False),
        (Quota(count=3), True),
        (Quota(size=1, directory="/nonexistent", inclusive=False), False),
    ],
)
def test_what_counts(box: Path, quota: Quota, full: bool) -> None:
    assert quota.exceeded(str(box), 50) is full


def test_delivery(box: Path) -> None:
    """A message that does not fit is deferred as a quota error, and nothing is left of it."""
    for number, (quota, result) in enumerate(
        [("100K", Result.DELIVERED), ("400", Result.DEFERRED)]
    ):
        transport = make(
            Appendfile, directory=str(box), maildir_format="true", quota=quota, user="root"
        )
        mail = message(b"y" * 300, id=f"1abcde-00000{number}-AB")
        (outcome,) = World(transport).deliver(mail, routed("a@e"))
        assert outcome.result is result
    assert outcome.error == "quota"
    assert [path.name for path in (box / "tmp").iterdir()] == ["4.d"]
