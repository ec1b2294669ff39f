"""What holds for all tests, and fixtures for those with real servers."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from tests.real.dovecot import Dovecot
from tests.real.server import Server

_CURRENT = "PYTEST_CURRENT_TEST"  # pytest's own, which it changes and removes itself
REAL = Path(__file__).parent / "real"

# Machines differ in speed, so no example has a deadline; a check in CI=true gives the same twice.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "here")


@pytest.fixture(scope="session", autouse=True)
def _working_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run all tests in a folder of their own: trial's ``mktemp`` writes into the current one."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("working"))
    yield
    os.chdir(before)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Give each test the environment that the run began with: commands and servers purge theirs."""
    before = dict(os.environ)
    yield
    if {**os.environ, _CURRENT: ""} != {**before, _CURRENT: ""}:
        os.environ.clear()
        os.environ.update(before)
        time.tzset()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests below ``tests/real``, so that ``-m "not real"`` leaves them out."""
    for item in items:
        if REAL in item.path.parents:
            item.add_marker("real")


@pytest.fixture
def start_dovecot() -> Iterator[Callable[..., Dovecot]]:
    """Give a function that starts a Dovecot with the users that it is given."""
    with ExitStack() as stack:

        def start(users: dict[str, str], quota_kilobytes: int = 0) -> Dovecot:
            dovecot = Dovecot(users, quota_kilobytes)
            stack.callback(dovecot.close)
            stack.callback(lambda: sys.stderr.write(f"--- dovecot\n{dovecot.logged()}"))
            dovecot.start()
            return dovecot

        yield start


@pytest.fixture
def start_server() -> Iterator[Callable[..., Server]]:
    """Give a function that starts a mailsrv on a configuration of ``tests/scenarios``."""
    with ExitStack() as stack:

        def start(
            configuration: str, *, prefix: tuple[str, ...] = (), **macros: str | Path
        ) -> Server:
            server = Server(configuration, macros)
            server.prefix = prefix
            stack.callback(server.close)
            stack.callback(lambda: sys.stderr.write(server.logged()))
            server.start()
            return server

        yield start
