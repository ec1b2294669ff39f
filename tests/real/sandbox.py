"""Debian's other mail servers, unpacked beside the system and run with an ``/etc`` of their own.

exim4 and postfix conflict with each other and with whatever the machine uses, so they are never
installed: their packages are unpacked below the git-ignored build folder, and each command runs in
a private mount namespace where ``/etc`` is a folder with the few files that it needs.  Only root
may do that.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.real import machine

_ETC = ("group", "hosts", "localtime", "nsswitch.conf", "passwd", "protocols", "resolv.conf",
        "services", "ssl", "host.conf", "mailname")  # fmt: skip
_ENTER = 'mount --bind "$1" /etc && shift && exec "$@"'


def unpacked(package: str) -> Path:
    """Return the folder that a Debian package is unpacked in; fetched once for a checkout."""
    root = machine.CACHE / package
    machine.CACHE.mkdir(parents=True, exist_ok=True)
    with (machine.CACHE / f"{package}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        if not root.exists():
            _fetch(package, root)
    return root


def _fetch(package: str, root: Path) -> None:
    """Download a package with apt and unpack it to ``root``."""
    apt, dpkg = machine.need("apt-get", "apt"), machine.need("dpkg", "dpkg")
    work = machine.CACHE / f"{package}.new"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    got = subprocess.run([apt, "download", package], cwd=work, capture_output=True, timeout=120)
    packages = list(work.glob("*.deb"))
    if not packages:
        machine.missing(f"{package} cannot be downloaded: {got.stderr.decode()[-300:]}")
    subprocess.run([dpkg, "-x", packages[0], work / "root"], check=True, timeout=120)
    (work / "root").rename(root)
    shutil.rmtree(work)


class Sandbox:
    """An ``/etc`` of one's own, in which commands are run.

    ``accounts`` are the system users and groups that are to exist in it, with their uid.
    ``libraries`` is a folder of shared libraries to be found there.
    """

    def __init__(self, folder: Path, accounts: dict[str, int], libraries: Path | None) -> None:
        machine.need_root("a private /etc for another mail server")
        self._unshare = machine.need("unshare", "util-linux")
        self.etc = folder / "etc"
        self.etc.mkdir()
        for name in _ETC:
            source = Path("/etc") / name
            if source.is_dir():
                shutil.copytree(source, self.etc / name, symlinks=True)
            elif source.exists():
                shutil.copyfile(source, self.etc / name)
        for name, uid in accounts.items():
            self._add(name, uid)
        configuration = self.etc / "ld.so.conf"
        configuration.write_text(f"{libraries}\n" if libraries else "")
        for line in sorted(Path("/etc/ld.so.conf.d").glob("*.conf")):
            with configuration.open("a") as file:
                file.write(line.read_text())
        ldconfig = machine.need("ldconfig", "libc-bin")
        subprocess.run(
            [ldconfig, "-X", "-f", configuration, "-C", self.etc / "ld.so.cache"],
            check=True, capture_output=True,
        )  # fmt: skip
        probe = machine.run(self.command(["true"]))
        if probe.returncode:
            machine.missing(f"no private mount namespace: {probe.stderr.decode()}")

    def _add(self, name: str, uid: int) -> None:
        """Add a user and a group, in place of any of that name."""
        for file, line in (
            ("passwd", f"{name}:x:{uid}:{uid}::/nonexistent:/usr/sbin/nologin\n"),
            ("group", f"{name}:x:{uid}:\n"),
        ):
            path = self.etc / file
            kept = [
                row for row in path.read_text().split("\n") if row and row.split(":")[0] != name
            ]
            path.write_text("\n".join(kept) + "\n" + line)

    def command(self, words: Sequence[str | Path]) -> list[str]:
        """Return the command that runs ``words`` in the sandbox."""
        return [self._unshare, "--mount", "--propagation", "private", "sh", "-c", _ENTER, "sh",
                str(self.etc), *map(str, words)]  # fmt: skip
