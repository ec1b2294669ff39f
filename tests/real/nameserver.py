"""A real name server, NSD, with zones of one's own on a port of 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.real import machine, sandbox

_LIBRARIES = ("libprotobuf-c1", "libfstrm0", "libevent-2.1-7")
_CONFIGURATION = """\
server:
  ip-address: {address}@{port}
  username: ""
  chroot: ""
  zonesdir: "{folder}"
  pidfile: "{folder}/nsd.pid"
  xfrdfile: ""
  xfrdir: "{folder}"
  zonelistfile: "{folder}/zone.list"
  database: ""
  hide-version: yes
  server-count: 1
  rrl-ratelimit: 0
remote-control:
  control-enable: no
"""
_ZONE = """
zone:
  name: "{name}"
  zonefile: "{name}.zone"
"""
_HEAD = """\
$ORIGIN {name}.
$TTL 60
@ IN SOA ns.{name}. admin.{name}. 1 60 60 60 5
@ IN NS ns.{name}.
ns IN A 127.0.0.1
"""


class NameServer:
    """Serves ``zones``: by name, the lines of each below its SOA and NS records.

    ``address`` and ``port`` are where it is asked; port 0 is a free one.
    """

    def __init__(self, zones: Mapping[str, str], address: str = "127.0.0.1", port: int = 0) -> None:
        self._root = sandbox.unpacked("nsd")
        self._libraries = [
            str(path)
            for package in _LIBRARIES
            for path in (sandbox.unpacked(package) / "usr" / "lib").glob("*-linux-gnu*")
        ]
        self.folder = machine.folder("nsd")
        self.address, self.port = address, port or machine.free_port()
        text = _CONFIGURATION.format(address=address, port=self.port, folder=self.folder)
        for name, records in zones.items():
            (self.folder / f"{name}.zone").write_text(_HEAD.format(name=name) + records)
            text += _ZONE.format(name=name)
        self._configuration = self.folder / "nsd.conf"
        self._configuration.write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def option(self) -> str:
        """The value of ``dns_servers`` that asks it."""
        return f"[{self.address}]::{self.port}"

    def start(self) -> NameServer:
        """Start it and return when it answers."""
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [self._root / "usr/sbin/nsd", "-d", "-c", self._configuration],
                env={**os.environ, "LD_LIBRARY_PATH": ":".join(self._libraries)},
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        machine.wait_until(lambda: machine.listens((self.address, self.port)), self._output())
        return self

    def _output(self) -> str:
        path: Path = self.folder / "output"
        return f"nsd: {path.read_text()}"

    def close(self) -> None:
        """End it and remove its folder."""
        if self._process is not None:
            machine.end(self._process)
            self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)
