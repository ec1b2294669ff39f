"""The configurations of ``conf/`` are right, in mailsrv's eyes and in Exim's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real import machine, sandbox

CONF = machine.CHECKOUT / "conf"
NAMES = sorted(path.name for path in CONF.glob("*.conf"))
MACROS = {"DEMO_USER": "nobody", "DEMO_GROUP": "nogroup"}


@pytest.fixture
def folder() -> Iterator[Path]:
    path = machine.folder("conf")
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("name", NAMES)
def test_mailsrv_accepts_it(name: str, folder: Path) -> None:
    """Only the user may be missing on this machine."""
    text = re.sub(r"= mailsrv$", "= nobody", (CONF / name).read_text(), flags=re.MULTILINE)
    text = text.replace("exim_group = nobody", "exim_group = nogroup")
    path = folder / name
    path.write_text(text)
    defines = [f"-D{macro}={value}" for macro, value in MACROS.items()]
    done = subprocess.run(
        [sys.executable, "-m", "mailsrv", "-C", path, *defines, f"-DDEMO_VAR={folder}", "-bV"],
        capture_output=True, timeout=60, cwd=machine.CHECKOUT, env={**os.environ},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert b"arning" not in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_exim_accepts_it(name: str, folder: Path) -> None:
    """All but the options of ours; the real program stops at the first error."""
    machine.need_root("a private /etc for exim4")
    program = sandbox.unpacked("exim4-daemon-heavy") / "usr/sbin/exim4"
    box = sandbox.Sandbox(folder, {"Debian-exim": 64901, "mailsrv": 64904}, None)
    text = re.sub(r"^workers.*$", "", (CONF / name).read_text(), flags=re.MULTILINE)
    for macro, value in {**MACROS, "DEMO_VAR": str(folder)}.items():
        text = text.replace(macro, value)
    path = folder / name
    path.write_text(f"exim_path = {program}\n{text}")
    done = machine.run(box.command([program, "-C", path, "-bV"]))
    assert done.returncode == 0, done.stderr.decode()
