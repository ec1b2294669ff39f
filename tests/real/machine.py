"""What tests with real servers need of the machine: programs, ports, folders, waiting.

A missing program skips the test with its reason on a developer's machine and fails it where
``CI=true`` says that everything must be there.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / "build" / "real"  # git-ignored


def missing(reason: str) -> NoReturn:
    """Skip the test for ``reason``, or fail it under ``CI=true``."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def need(program: str, package: str) -> str:
    """Return the path of a program, looked for in the ``sbin`` folders too."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    found = shutil.which(program, path=path)
    if found is None:
        missing(f"{program} is not installed (apt-get install {package})")
    return found


def need_root(why: str) -> None:
    """Go on only as root."""
    if os.geteuid() != 0:
        missing(f"only root can do this: {why}")


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that the kernel has just found free.

    The kernel goes on through its range, so two test processes do not get the same one.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def free_address() -> str:
    """Return an IP address of this host that most probably no other test uses."""
    return f"127.{random.randint(1, 250)}.{random.randint(0, 250)}.{random.randint(1, 250)}"


def folder(name: str) -> Path:
    """Return a new folder below the system's short temporary folder, which all may enter.

    Its path stays short: a Unix socket's path has at most 107 octets.
    """
    path = Path(tempfile.mkdtemp(prefix=f"mailsrv-{name}-", dir="/tmp"))
    path.chmod(0o755)
    return path


def wait_until(
    condition: Callable[[], object], what: str, timeout: float = 60.0, step: float = 0.02
) -> None:
    """Poll until ``condition()`` holds.

    :raises TimeoutError: names ``what`` was waited for.
    """
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        time.sleep(step)


def listens(address: tuple[str, int] | str | Path) -> bool:
    """Tell whether something accepts connections at a TCP address or Unix socket."""
    family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
    with socket.socket(family) as probe:
        probe.settimeout(2)
        try:
            probe.connect(address if isinstance(address, tuple) else str(address))
        except OSError:
            return False
    return True


def run(
    command: Sequence[str | Path],
    *,
    stdin: bytes = b"",
    timeout: float = 60,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end with its output kept; a non-zero status is no error here."""
    return subprocess.run(
        [str(word) for word in command], input=stdin, capture_output=True, timeout=timeout, env=env
    )


def end(process: subprocess.Popen[bytes], grace: float = 10.0) -> None:
    """Terminate a process that a test started, with force if it does not go."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
