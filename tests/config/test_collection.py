"""mailsrv accepts of the collection what it is expected to accept (``tests/real`` asks Exim)."""

from __future__ import annotations

import pytest

from tests.config.collection import Configuration, ask, collection

CONFIGURATIONS = collection()


def test_there_are_enough() -> None:
    assert len(CONFIGURATIONS) >= 450
    assert sum(each.exim_accepts for each in CONFIGURATIONS) >= 50
    assert sum(not each.exim_accepts for each in CONFIGURATIONS) >= 50
    different = [each for each in CONFIGURATIONS if each.exim_accepts != each.mailsrv_accepts]
    assert len(different) <= len(CONFIGURATIONS) * 0.02


@pytest.mark.parametrize("each", CONFIGURATIONS, ids=lambda each: each.path.stem)
def test_answer(each: Configuration) -> None:
    answer = ask(each.path)
    if answer.unbuilt and each.exim_accepts:
        pytest.skip(answer.said)
    assert answer.accepts == each.mailsrv_accepts, answer.said
