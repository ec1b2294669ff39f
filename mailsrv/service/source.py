"""Where a server's configuration comes from, and how it travels to processes without its files."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from mailsrv.config.lines import Files
from mailsrv.config.model import Configuration
from mailsrv.config.read import read
from mailsrv.errors import ConfigError, ConfigErrors
from mailsrv.net.tls import KeyStore
from mailsrv.service.privileges import Account

LARGEST = 64 << 20  # octets of a snapshot


@dataclass(frozen=True, slots=True)
class Source:
    """A file and the macros of the command line."""

    path: str
    macros: Mapping[str, str] = field(default_factory=dict)

    def read(self) -> tuple[Configuration, Files]:
        """Read it from the disk; return what it says, and its texts.

        :raises ConfigErrors: all faults, in the order of the file.
        """
        files = Files()
        return read(self.path, self.macros, files), files


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a worker needs that it may not read: the configuration's texts, and keys."""

    source: Source
    texts: Mapping[str, str]
    keys: Mapping[str, bytes]
    account: Account | None
    file_limit: int
    spool_directory: str
    log_file_path: str
    workers: int

    def read(self) -> Configuration:
        """Return what the configuration said when the snapshot was made.

        :raises ConfigErrors: the machine has changed meanwhile, such as its users.
        """
        return read(self.source.path, self.source.macros, Files(self.texts))

    def store(self) -> KeyStore:
        """Return the keys."""
        return KeyStore(self.keys)

    def pack(self) -> int:
        """Write it to a file that has no name, and return its descriptor.

        :raises OSError: there is no memory.
        """
        account = self.account
        octets = json.dumps(
            {
                "path": self.source.path,
                "macros": dict(self.source.macros),
                "texts": dict(self.texts),
                "keys": {name: base64.b64encode(key).decode() for name, key in self.keys.items()},
                "account": None if account is None else [account.uid, account.gid, account.name],
                "file_limit": self.file_limit,
                "spool_directory": self.spool_directory,
                "log_file_path": self.log_file_path,
                "workers": self.workers,
            }
        ).encode("ascii")
        descriptor = os.memfd_create("mailsrv-configuration", os.MFD_CLOEXEC)
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(octets)
        return descriptor

    @classmethod
    def unpack(cls, descriptor: int) -> Snapshot:
        """Return what :meth:`pack` wrote."""
        values = json.loads(os.pread(descriptor, LARGEST, 0))
        path, macros = values.pop("path"), values.pop("macros")
        keys = {name: base64.b64decode(key) for name, key in values.pop("keys").items()}
        account = values.pop("account")
        return cls(
            source=Source(path, macros),
            keys=keys,
            account=None if account is None else Account(*account),
            **values,
        )


def reasons(error: Exception) -> list[str]:
    """Return what an administrator wants to read of an error, a line for each fault."""
    if isinstance(error, ConfigErrors):
        return [str(each) for each in error.errors]
    if isinstance(error, ConfigError):
        return [str(error)]
    if isinstance(error, OSError) and error.strerror:
        return [f"{error.strerror}: {error.filename}" if error.filename else error.strerror]
    return [str(error)]
