"""Log lines for syslog (specification 53.4), sent to the local socket without ever waiting.

A line that the syslog daemon does not take at once is lost to syslog: mail never waits for it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

from mailsrv.errors import ConfigError

ALERT, CRITICAL, NOTICE, INFO = 1, 2, 5, 6
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LIMIT = 870  # data characters in one syslog line

_FACILITIES = {
    "user": 1,
    "mail": 2,
    "daemon": 3,
    "news": 7,
    "uucp": 8,
    **{f"local{number}": 16 + number for number in range(8)},
}


def facility(name: str) -> int:
    """Return the number of a ``syslog_facility``; "" is ``mail``.

    :raises ConfigError: for a name that is none.
    """
    try:
        return _FACILITIES[name or "mail"]
    except KeyError:
        raise ConfigError(
            f'syslog_facility value "{name}" not recognized', hint=", ".join(sorted(_FACILITIES))
        ) from None


def pieces(text: str, limit: int = _LIMIT) -> Iterator[str]:
    """Split an entry at its newlines and after ``limit`` characters, numbered if there are several.

    ``[n/m]`` marks a piece that was cut because it was too long, ``[n\\m]`` one that ends a line;
    the last has the former mark.
    """
    parts: list[tuple[str, str]] = []  # text, and the mark that says why it ends here
    for line in text.split("\n"):
        cut = [line[start : start + limit] for start in range(0, len(line), limit)] or [""]
        parts += [(piece, "/") for piece in cut[:-1]] + [(cut[-1], "\\")]
    if len(parts) == 1:
        yield parts[0][0]
        return
    parts[-1] = (parts[-1][0], "/")
    for number, (piece, mark) in enumerate(parts, 1):
        yield f"[{number}{mark}{len(parts)}] {piece}"


class Syslog:
    """The connection to the syslog daemon; made anew when the daemon was."""

    def __init__(
        self,
        facility_name: str = "",
        process_name: str = "exim",
        *,
        with_pid: bool = True,
        path: str = "/dev/log",
    ) -> None:
        if len(process_name) > 32:
            raise ConfigError("syslog_processname is longer than 32 characters")
        self._facility = facility(facility_name)
        self._process = process_name
        self._with_pid = with_pid
        self._path = path
        self._socket: socket.socket | None = None

    def write(self, priority: int, text: str, now: float) -> None:
        """Send an entry, in as many pieces as it needs.

        :raises OSError: if the daemon is away or does not take it at once.
        """
        moment = time.localtime(now)
        stamp = f"{_MONTHS[moment.tm_mon - 1]} {moment.tm_mday:2d} {time.strftime('%T', moment)}"
        tag = f"{self._process}[{os.getpid()}]" if self._with_pid else self._process
        head = f"<{self._facility * 8 + priority}>{stamp} {tag}: "
        for piece in pieces(text):
            self._send((head + piece).encode("latin-1", "backslashreplace"))

    def _send(self, datagram: bytes) -> None:
        for again in (True, False):
            try:
                if self._socket is None:
                    self._socket = self._connect()
                self._socket.send(datagram)
            except BlockingIOError:
                raise
            except OSError:
                self.close()
                if not again:
                    raise
            else:
                return

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            connection.connect(self._path)
        except OSError:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close the socket; the next line opens it again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
