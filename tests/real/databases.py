"""PostgreSQL, MariaDB and Redis: real servers from Debian's packages, unpacked, on loopback.

Each is empty, in a folder of its own, and reckons with no loss of power: it starts in a second or
two and ends with the test.  ``host`` and ``port``, or ``socket``, are where it listens.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.real import machine, sandbox

PASSWORD = "secret"
_NOBODY = 65534
_ENTER = 'mount --bind "$1" /mnt && shift && exec setpriv --reuid 65534 --regid 65534 ' \
    '--clear-groups "$@"'  # fmt: skip


class Database:
    """A server that has begun to run; ``libraries`` are packages whose libraries it needs."""

    libraries: tuple[str, ...] = ()
    ending = signal.SIGTERM
    abort = signal.SIGKILL

    def __init__(self) -> None:
        machine.need_root("a database server of another user")
        self.folder = machine.folder("database")
        os.chown(self.folder, _NOBODY, _NOBODY)
        self.host, self.port = "127.0.0.1", machine.free_port()
        self._environment = {**os.environ, "LC_ALL": "C", "LD_LIBRARY_PATH": ":".join(
            str(path)
            for package in self.libraries
            for path in (sandbox.unpacked(package) / "usr/lib").glob("*-linux-gnu*")
        )}  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self.create()
        self.start()

    @property
    def socket(self) -> Path:
        """The Unix socket."""
        return self.folder / "socket"

    def create(self) -> None:
        """Make what the server starts from."""

    def command(self) -> list[str | Path]:
        """Return the command that is the server, in the foreground."""
        raise NotImplementedError

    def run(self, command: list[str | Path], text: str = "") -> None:
        """Run a command that must succeed."""
        done = machine.run(command, stdin=text.encode(), env=self._environment)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start it and return when it answers."""
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [str(word) for word in self.command()], env=self._environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        machine.wait_until(self.answers, "the database answers")

    def answers(self) -> bool:
        """Whether it serves."""
        return machine.listens((self.host, self.port))

    def stop(self) -> None:
        """End it; it can be started again."""
        if self._process is not None:
            self._process.send_signal(self.ending)
            machine.end(self._process)
            self._process = None

    def close(self) -> None:
        """End it at once and remove its folder."""
        if self._process is not None:
            self._process.send_signal(self.abort)
            machine.end(self._process)
        shutil.rmtree(self.folder, ignore_errors=True)


class PostgreSql(Database):
    """PostgreSQL with the user ``exim`` and the database ``mail``; it never runs as root."""

    ending = signal.SIGINT  # SIGTERM alone waits for the clients
    abort = signal.SIGQUIT  # its processes and shared memory go with it

    def _as_nobody(self, *words: str | Path) -> list[str | Path]:
        """Return a command for the package's programs, which others might not be able to reach."""
        root = sandbox.unpacked("postgresql-15") / "usr"
        programs = "/mnt/lib/postgresql/15/bin"
        return [machine.need("unshare", "util-linux"), "--mount", "--propagation", "private",
                "sh", "-c", _ENTER, "sh", root, f"{programs}/{words[0]}", *words[1:]]  # fmt: skip

    def create(self) -> None:
        """Make a cluster and the database."""
        password = self.folder / "password"
        password.write_text(PASSWORD)
        os.chown(password, _NOBODY, _NOBODY)
        self.run(self._as_nobody(
            "initdb", "-D", self.folder / "data", "-U", "exim", "-A", "password", "-E", "UTF8",
            f"--pwfile={password}", "--locale=C", "--no-sync", "--no-instructions",
        ))  # fmt: skip
        single = self._as_nobody(
            "postgres", "--single", "-F", "-D", self.folder / "data", "postgres"
        )
        self.run(single, "CREATE DATABASE mail;\n")

    def answers(self) -> bool:
        """Whether it serves: it listens before it does."""
        status = self.folder / "data/postmaster.pid"
        return status.exists() and status.read_text().rstrip().endswith("ready")

    @property
    def socket(self) -> Path:
        """The Unix socket."""
        return self.folder / f".s.PGSQL.{self.port}"

    def command(self) -> list[str | Path]:
        """Return the command."""
        return self._as_nobody(
            "postgres", "-F", "-D", self.folder / "data", "-h", self.host, "-p", str(self.port),
            "-k", self.folder,
        )  # fmt: skip


class MariaDb(Database):
    """MariaDB with the user ``exim`` and the database ``mail``."""

    libraries = ("libaio1", "liburing2", "libnuma1")

    def _server(self) -> list[str | Path]:
        root = sandbox.unpacked("mariadb-server-core") / "usr"
        return [root / "sbin/mariadbd", "--no-defaults", f"--basedir={root}", "--user=nobody",
                f"--datadir={self.folder}/data", f"--tmpdir={self.folder}",
                f"--lc-messages-dir={root}/share/mysql", "--innodb-log-file-size=4M",
                "--innodb-buffer-pool-size=8M", "--innodb-flush-log-at-trx-commit=0",
                "--skip-log-bin", "--skip-name-resolve",
                "--character-set-server=utf8mb4"]  # fmt: skip

    def create(self) -> None:
        """Make the system's tables, the user and the database."""
        data = self.folder / "data"
        data.mkdir()
        os.chown(data, _NOBODY, _NOBODY)
        tables = sandbox.unpacked("mariadb-server-core") / "usr/share/mysql"
        names = ("mysql_system_tables.sql", "mysql_system_tables_data.sql")
        text = "create database mysql;\nuse mysql;\n"
        text += "".join((tables / name).read_text() for name in names)
        text += f"""create database mail;
flush privileges;
create user exim@'%' identified by '{PASSWORD}';
create user exim@localhost identified by '{PASSWORD}';
grant all on mail.* to exim@'%';
grant all on mail.* to exim@localhost;
"""
        self.run([*self._server(), "--bootstrap", "--skip-networking"], text)

    def command(self) -> list[str | Path]:
        """Return the command."""
        return [*self._server(), f"--port={self.port}", f"--bind-address={self.host}",
                f"--socket={self.socket}"]  # fmt: skip


class Redis(Database):
    """Redis, which wants the password."""

    libraries = ("libatomic1", "liblzf1", "libjemalloc2")

    def command(self) -> list[str | Path]:
        """Return the command."""
        server = sandbox.unpacked("redis-tools") / "usr/bin/redis-check-rdb"
        program = self.folder / "redis-server"  # by its name it knows that it is to serve
        if not program.exists():
            program.symlink_to(server)
        return [program, "--port", str(self.port), "--bind", self.host, "--save", "",
                "--dir", self.folder, "--unixsocket", self.socket, "--requirepass",
                PASSWORD]  # fmt: skip
