"""A message as local files hold it: line ends and escaped lines (specification 26.2)."""

from __future__ import annotations

import re


class LocalText:
    """Turns a stream with CRLF line ends into a file's, whatever pieces it comes in.

    ``check`` at the start of a line becomes ``escape`` (check_string,
    escape_string); ``crlf`` keeps the line ends as they are.
    """

    def __init__(self, check: bytes = b"", escape: bytes = b"", *, crlf: bool = False) -> None:
        self._check = check
        self._escape = escape
        self._crlf = crlf
        self._pattern = re.compile(rb"(?<=\n)" + re.escape(check)) if check else None
        self._held = b""
        self._at_start = True

    def feed(self, data: bytes) -> bytes:
        """Return the octets to write; what may be part of a longer match waits."""
        data = self._held + data
        self._held = b""
        if data.endswith(b"\r"):
            data, self._held = data[:-1], b"\r"
        if not self._crlf:
            data = data.replace(b"\r\n", b"\n")
        if self._pattern is not None:
            data = self._keep_start(data)
        return self._escaped(data)

    def end(self) -> bytes:
        """Return what was held."""
        held, self._held = self._held, b""
        return self._escaped(held)

    def _keep_start(self, data: bytes) -> bytes:
        """Hold back the beginning of a line that may become ``check``."""
        start = data.rfind(b"\n") + 1
        tail = data[start:]
        begins = start > 0 or self._at_start
        if tail and begins and len(tail) < len(self._check) and self._check.startswith(tail):
            self._held = tail + self._held
            return data[:start]
        return data

    def _escaped(self, data: bytes) -> bytes:
        if self._pattern is None or not data:
            return data
        first = self._at_start and data.startswith(self._check)
        self._at_start = data.endswith(b"\n")
        if first:
            rest = data[len(self._check) :]
            return self._escape + self._pattern.sub(lambda _: self._escape, rest)
        return self._pattern.sub(lambda _: self._escape, data)
