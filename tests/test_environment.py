"""The tests' own environment: what one test does to it, no other sees."""

from __future__ import annotations

import os

NAME = "MAILSRV_LEFT_BEHIND"


def test_a_purge() -> None:
    """As a command does it; the next test has everything again."""
    os.environ.clear()
    os.environ[NAME] = "1"


def test_after_a_purge() -> None:
    """The environment is that of the run."""
    assert "PATH" in os.environ
    assert NAME not in os.environ
