"""A command's side of the control socket: plain blocking calls (design, decision 11)."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from typing import Any

from mailsrv.service.requests import SOCKET

# Seconds until the first piece of the first answer; seconds that any further piece may take.  A
# server that is at work gives a sign of life every few seconds.
FIRST = 10.0
TIMEOUT = 60.0
# Octets of one piece of an answer; a page of a listing may have many recipients.
PIECE_LIMIT = 256 << 20


class ControlError(Exception):
    """A request that was refused or could not be made; the text is for the user."""


class NotRunning(ControlError):
    """Nobody listens on the socket."""


class Control:
    """A connection to a running server.

    :raises NotRunning: there is no server.
    :raises ControlError: it cannot be reached.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._limit = FIRST
        self._socket.settimeout(self._limit)
        self._count = 0
        try:
            self._connect(path)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            self._socket.close()
            raise NotRunning(f"no server listens on {path}") from error
        except TimeoutError as error:
            self._socket.close()
            raise self._silent() from error
        except OSError as error:
            self._socket.close()
            raise ControlError(f"{path}: {error.strerror or error}") from error
        self._file = self._socket.makefile("rb")

    def _connect(self, path: str) -> None:
        """Connect; a path that is too long for an address is reached through its folder."""
        if len(os.fsencode(path)) < 100:
            self._socket.connect(path)
            return
        folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
        try:
            self._socket.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
        finally:
            os.close(folder)

    def ask(self, do: str, **values: Any) -> Iterator[dict[str, Any]]:
        """Send a request and give the pieces of its answer but the last, which says "done".

        :raises ControlError: the server refuses, or goes away.
        """
        self._count += 1
        request = {"id": self._count, "do": do, **values}
        try:
            self._socket.sendall(json.dumps(request).encode("ascii") + b"\n")
        except OSError:
            pass  # refused already: the reason can be read
        while True:
            piece = self._piece()
            if "error" in piece:
                raise ControlError(str(piece["error"]))
            if isinstance(piece.get("id"), int) and piece["id"] < self._count:
                continue  # of an answer that nobody wanted to hear to its end
            if piece.get("id") != self._count:
                raise ControlError(f"{self._path}: an answer to another question")
            if piece.get("busy"):
                continue
            if piece.get("done"):
                return
            yield piece

    def _piece(self) -> dict[str, Any]:
        try:
            line = self._file.readline(PIECE_LIMIT)
            piece = json.loads(line) if line.endswith(b"\n") else None
        except TimeoutError as error:
            raise self._silent() from error
        except (OSError, ValueError) as error:
            raise ControlError(f"{self._path}: {error}") from error
        if not isinstance(piece, dict):
            raise ControlError(f"{self._path}: the server closed the connection")
        if self._limit != TIMEOUT:
            self._limit = TIMEOUT
            self._socket.settimeout(self._limit)
        return piece

    def _silent(self) -> ControlError:
        return ControlError(
            f"the server does not answer on {self._path} (within {self._limit:g} seconds)"
        )

    def close(self) -> None:
        """End the connection."""
        self._file.close()
        self._socket.close()


def worker_folders(spool_directory: str) -> list[str]:
    """Return the workers' folders in a spool directory: those whose names are numbers.

    :raises ControlError: the directory cannot be read.
    """
    try:
        names = [name for name in os.listdir(spool_directory) if name.isascii() and name.isdigit()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ControlError(f"{spool_directory}: {error.strerror}") from error
    return [os.path.join(spool_directory, name) for name in sorted(names, key=int)]


def socket_path(folder: str) -> str:
    """Return the path of the control socket of a worker's folder."""
    return os.path.join(folder, SOCKET)
