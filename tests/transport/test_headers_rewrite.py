"""headers_rewrite: rules for what a transport sends (31.7)."""

from __future__ import annotations

import pytest

from mailsrv.errors import ConfigError, Position
from mailsrv.expansion.rewrite import parse_list


def test_list() -> None:
    """Items are rules; colons are doubled, and flags of the envelope are refused."""
    rules = parse_list(r"\N^(?::a|b)@x\N c@x.example r : *@y $1@z", None)
    assert [each.pattern.source for each in rules.rules] == [r"\N^(?:a|b)@x\N", "*@y"]
    for flag in "EFTS":
        with pytest.raises(ConfigError) as caught:
            parse_list(rf"\N^a\N b@c {flag}", Position("test.conf", 3))
        assert caught.value.where == Position("test.conf", 3)
