"""LDAP lookups and ``ldapauth`` at a real slapd, as the real exim4 answers them (9.14 to 9.19)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real import machine, sandbox

HERE = Path(__file__).parent / "ldap"

_CONF = """include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix "o=x"
rootdn "cn=admin,o=x"
directory {folder}/db
"""

_ASK = """while IFS= read -r line; do
  printf '# '; "$1" -C "$2/conf" -be "$line" </dev/null
done <"$2/cases.txt" """


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with the cases, while a slapd with the entries runs."""
    program = machine.need("slapd", "slapd")
    made = machine.folder("ldap")
    (made / "db").mkdir()
    (made / "slapd.conf").write_text(_CONF.format(folder=made))
    port = machine.free_port()
    texts = (HERE / "cases.txt").read_text()
    texts = texts.replace("SERVER", f"127.0.0.1:{port}").replace("LISTED", f"127.0.0.1::{port}")
    (made / "cases.txt").write_text(texts)
    (made / "conf").write_text(
        f"primary_hostname = mail.example.test\nldap_default_servers = 127.0.0.1::{port}\n"
    )
    common = ["-f", str(made / "slapd.conf")]
    subprocess.run([program, "-Ta", *common, "-l", HERE / "entries.ldif"], check=True)
    listen = [program, "-d", "0", *common, "-h", f"ldap://127.0.0.1:{port}"]
    process = subprocess.Popen(listen, stderr=subprocess.DEVNULL)
    try:
        machine.wait_until(lambda: machine.listens(("127.0.0.1", port)), "slapd listens")
        yield made
    finally:
        machine.end(process)
        shutil.rmtree(made, ignore_errors=True)


def test_ldap(folder: Path) -> None:
    """Each answer is exim4's, failures in whatever words."""
    cases = (folder / "cases.txt").read_text().splitlines()
    program = sandbox.unpacked("exim4-daemon-heavy") / "usr/sbin/exim4"
    (folder / "box").mkdir()
    box = sandbox.Sandbox(folder / "box", {"Debian-exim": 64901}, None)
    done = machine.run(box.command(["sh", "-c", _ASK, "sh", program, folder]))
    exim = done.stdout.decode("utf-8").removeprefix("# ").rstrip("\n").split("\n# ")
    assert len(exim) == len(cases), done.stderr
    different = []
    for case, wanted in zip(cases, exim, strict=True):
        asked = [sys.executable, "-m", "mailsrv", "-C", str(folder / "conf"), "-be", case]
        said = subprocess.run(asked, capture_output=True, cwd=HERE.parents[2]).stdout
        ours = said.decode("utf-8").rstrip("\n")
        if ours != wanted and not (ours[:6] == wanted[:6] == "Failed"):
            different.append((case, wanted, ours))
    assert different == []
