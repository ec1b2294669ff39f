"""Log files: where they are, and appending to them so that one line is one ``write``.

A file is opened when it is first written to, never through a symbolic link, and anew when it was
renamed or removed (log rotation), looked at no more than once a second, or when its name changes
with the date.  What cannot be written raises :class:`OSError`: the caller has another way out.
"""

from __future__ import annotations

import os
import re
import stat
import time

from mailsrv.errors import ConfigError

MODE = 0o640  # LOG_MODE of Exim
FOLDER_MODE = 0o750
_RECHECK = 1.0  # seconds between two looks at the name of an open file

_FLAGS = (
    os.O_WRONLY
    | os.O_APPEND
    | os.O_CREAT
    | os.O_NOFOLLOW
    | os.O_CLOEXEC
    | os.O_NOCTTY
    | os.O_NONBLOCK  # a FIFO without a reader must not stop the server
)

_DATE = re.compile(r"%[DM]", re.ASCII)


def destinations(setting: str, spool_directory: str) -> tuple[str | None, bool]:
    """Return the path of the files (None: no files) and whether syslog is written too.

    ``setting`` is the expanded ``log_file_path``, always separated by colons (53.1).

    :raises ConfigError: for a path that is not absolute or has no ``%s``.
    """
    default = f"{spool_directory}/log/%slog"
    items = [item.strip(" \t\n") for item in setting.split(":")] if setting.strip(" ") else [""]
    path: str | None = None
    syslog = False
    for item in items:
        if item == "syslog":
            syslog = True
        elif path is None:  # of more than one the first is used
            path = item or default
    if path is not None and not path.startswith("/"):
        raise ConfigError(f'log_file_path: "{path}" is not an absolute path')
    if path is not None and "%s" not in path:
        raise ConfigError(f'log_file_path: "{path}" has no %s', hint="it stands for main, reject …")
    return path, syslog


def file_name(path: str, stream: str, now: time.struct_time) -> str:
    """Return the name of a stream's file: ``main``, ``reject`` or ``panic`` (53.1, 53.3).

    The panic log bears no date; the character that sets the date off goes with it.
    """
    if stream == "panic":
        path = re.sub(r"(?<=/)%[DM][^A-Za-z0-9/%]", "", path)
        path = re.sub(r"(?:(?<=[^/])[^A-Za-z0-9/%])?%[DM]", "", path)
    else:
        path = _DATE.sub(
            lambda found: time.strftime("%Y%m%d" if found[0] == "%D" else "%Y%m", now), path
        )
    return path.replace("%s", stream)


class LogFile:
    """One growing file; ``owner`` is the (uid, gid) that a file made by root is given to."""

    def __init__(self, owner: tuple[int, int] | None = None) -> None:
        self._owner = owner
        self._name = ""
        self._descriptor = -1
        self._identity = (0, 0)  # device and inode of the open file
        self._looked = 0.0
        self._torn = False  # the last write ended in the middle of a line

    def write(self, name: str, line: bytes, now: float) -> None:
        """Append a line (its end included) to the file ``name``.

        :raises OSError: if the file cannot be opened or the line not be written whole.
        """
        if self._descriptor < 0 or name != self._name or self._replaced(now):
            self._open(name, now)
        if self._torn:
            line = b"\n" + line
        written = os.write(self._descriptor, line)
        self._torn = written < len(line)
        if self._torn:  # a full disk takes a part; the second attempt says why
            rest = os.write(self._descriptor, line[written:])
            self._torn = written + rest < len(line)

    def _replaced(self, now: float) -> bool:
        """Tell, by looking once a second, whether the name means another file now."""
        if 0 <= now - self._looked < _RECHECK:
            return False
        self._looked = now
        try:
            found = os.stat(self._name, follow_symlinks=False)
        except FileNotFoundError:
            return True
        return (found.st_dev, found.st_ino) != self._identity

    def _open(self, name: str, now: float) -> None:
        self.close()
        try:
            descriptor = os.open(name, _FLAGS, MODE)
        except FileNotFoundError:
            self._make_folder(os.path.dirname(name))
            descriptor = os.open(name, _FLAGS, MODE)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise OSError(f"{name} is not a regular file")
        if self._owner is not None and found.st_uid != self._owner[0] and os.geteuid() == 0:
            os.fchown(descriptor, *self._owner)
        self._descriptor, self._name, self._looked = descriptor, name, now
        self._identity = (found.st_dev, found.st_ino)
        self._torn = False

    def _make_folder(self, folder: str) -> None:
        """Make the last folder of the path if only that is missing."""
        os.mkdir(folder, FOLDER_MODE)
        if self._owner is not None and os.geteuid() == 0:
            os.chown(folder, *self._owner, follow_symlinks=False)

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
