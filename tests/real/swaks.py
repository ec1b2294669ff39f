"""swaks, the test client that administrators use."""

from __future__ import annotations

import subprocess

from tests.real import machine


def swaks(
    port: int, *arguments: str, sender: str = "alice@example.org", to: str = "bob@example.org"
) -> subprocess.CompletedProcess[str]:
    """Send a message to ``port`` of 127.0.0.1; the status is 0 if it was accepted.

    The output holds the dialogue: lines with ``<~`` are the server's inside TLS.
    """
    return subprocess.run(
        [machine.need("swaks", "swaks"), "--server", f"127.0.0.1:{port}", "--from", sender,
         "--to", to, "--timeout", "30", *arguments],
        capture_output=True, text=True, timeout=90, errors="replace",
    )  # fmt: skip
