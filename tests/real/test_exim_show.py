"""The real exim4 and mailsrv print the same of a configuration (``-bP`` in all its forms).

The configurations are those of ``shown/`` and ``tests/config/configurations``: nothing
set, every kind of driver with and without options, most main options set, Debian's own.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailsrv.commands.main import main
from tests.config.collection import FOLDER
from tests.real import machine, sandbox
from tests.real.test_exim_configurations import debian

HERE = Path(__file__).parent / "shown"
WORDS = (
    *("", "routers", "transports", "authenticators", "router_list", "transport_list"),
    *("router r1", "router nosuch", "transport af", "authenticator plain", "macro MYMAC"),
    *("+local_domains", "+secret", "+nosuch qualify_domain", "qualify_domain +nosuch", "nosuch"),
    *("primary_hostname nosuch delay_warning", "no_queue_only", "mysql_servers", "log_selector"),
    *("acl_smtp_rcpt message_size_limit", "config", "config_file", "local_domains", "router"),
)
# Options whose value is the program's own, and those that docs/differences.md tells of.
OWN = re.compile(
    r"(?:exim_(?:group|user|path|version)|pid_file_path|process_log_path|received_header_text"
    r"|smtp_banner|smtp_accept_max|system_filter_(?:group|user)|command_group|public_name"
    r"|server_param|\*expand_maildir_use_size_file) ?=.*"
    # what Exim derives from other options, or prints in other words than it was given
    r"|(?:no_)?check_owner|(?:group|check_string|escape_string|self|headers_remove) =.*"
)
ASK = """cd "$2" && for file in *.conf; do while read -r number words; do
  "$1" -C "$2/$file" $MODE -bP $words 2>/dev/null; echo "status $?"
done <words >"$file.said"; done"""


ANSWER = re.compile(r"(.*?^status [0-9]+\n)", re.DOTALL | re.MULTILINE)
DRIVERS = ("", "routers", "transports", "authenticators", "transport af", "router r1")


@pytest.fixture
def folder() -> Iterator[Path]:
    made = machine.folder("show")
    (made / "spool").mkdir()
    made.chmod(0o777)  # for exim4's log
    head = f"spool_directory = {made}/spool\nlog_file_path = {made}/log-%slog\n"
    texts = {path.stem: path.read_text() for path in HERE.glob("*.conf")}
    texts["least"] = "primary_hostname = mail.example.com\n"
    for kind in ("smarthost", "internet", "satellite"):
        texts[f"debian-{kind}"] = debian(kind, "maildir_home")
    for path in sorted(FOLDER.glob("whole-*.conf")):
        texts[path.stem] = path.read_text("latin-1")
    for name, text in texts.items():
        text = re.sub(r"(?m)^(?:spool_directory|log_file_path)\s*=.*\n", "", text)
        (made / f"{name}.conf").write_text(head + text, "latin-1")
    (made / "words").write_text("".join(f"{n} {words}\n" for n, words in enumerate(WORDS)))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def ours(path: Path, words: str, *mode: str) -> str:
    """What mailsrv prints, and its status."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        status = main(["-C", str(path), *mode, "-bP", *words.split()])
    return f"{out.getvalue()}status {status}\n"


def compared(text: str) -> list[str]:
    """The lines that both should have: without what has the programs' own values."""
    text = re.sub(r"(?m)^# mailsrv's own\n(?:(?:\S+ = .*|\S+ =|\S+)\n)*?(?=\n|status )", "", text)
    return [line for line in text.splitlines() if not OWN.fullmatch(line)]


@pytest.mark.parametrize("mode", ["", "-n"])
def test_show(folder: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = sandbox.unpacked("exim4-daemon-heavy") / "usr/sbin/exim4"
    (folder / "box").mkdir()
    box = sandbox.Sandbox(folder / "box", {"Debian-exim": 64901}, None)
    (box.etc / "exim4").mkdir()
    files = sorted(folder.glob("*.conf"))
    trusted = "".join(f"{path}\n" for path in files)
    (box.etc / "exim4" / "trusted_configs").write_text(trusted)
    monkeypatch.setenv("MODE", mode)
    done = machine.run(box.command(["sh", "-c", ASK, "sh", program, folder]))
    assert done.returncode == 0, done.stderr
    different, count = [], 0
    for path in files:
        said = re.findall(ANSWER, path.with_suffix(".conf.said").read_text("latin-1"))
        for words, theirs in zip(WORDS, said, strict=True):
            if mode and words in DRIVERS:
                continue  # values alone: those of the programs' own options cannot be told
            count += 1
            left, right = compared(theirs), compared(ours(path, words, *mode.split()))
            if left != right:
                rows = [*(f"exim4 {x}" for x in left if x not in right),
                        *(f"ours  {x}" for x in right if x not in left)]  # fmt: skip
                different.append(f"{path.name} {mode} -bP {words}: {rows or 'another order'}")
    print(f"{count - len(different)} of {count} alike, {len(files)} configurations")
    assert len(files) >= 10
    assert different == [], "\n".join(different)
