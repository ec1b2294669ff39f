"""Some 150 redirections and what Debian's exim4 says of each with ``-bt``: ``data/redirect.json``.

The unit test compares mailsrv with what is recorded; the real test compares the
record with exim4.  ``DIR`` stands for a folder that holds :data:`FILES`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from mailsrv.interfaces import Routed
from mailsrv.mail.routed import RoutedAddress

RECORD = Path(__file__).parent / "data" / "redirect.json"

FILES = {
    "nl": "joe\n",
    "bad": "# a list\njoe\njane, bob   # not a comment\n",
    "list": "# a list\njoe\njane, bob\n\nsomeone@far.example,\n:include:DIR/list2\n",
    "list2": 'a.b, "quoted"@far.example\n',
}
USERS = "joe : jane : bob : a.b"

ROUTER = """\
aliases:
  driver = redirect
  domains = q.example : l.example : w.example
"""

CONFIGURATION = f"""\
primary_hostname = me.example
qualify_domain = q.example
never_users =
begin routers
ROUTERS
users:
  driver = accept
  domains = q.example : l.example : w.example
  local_parts = {USERS}
  transport = users
remote:
  driver = accept
  domains = ! q.example : ! l.example : ! w.example
  transport = remote
begin transports
users:
  driver = appendfile
  file = DIR/mail/$local_part_data
remote:
  driver = appendfile
  file = DIR/mail/remote
files:
  driver = appendfile
folders:
  driver = appendfile
  maildir_format
pipes:
  driver = pipe
"""
TRANSPORTS = ("users", "remote", "files", "folders", "pipes")
PLACES = "file_transport = files\npipe_transport = pipes\ndirectory_transport = folders\n"
ALLOWED = "allow_fail\nallow_defer\n"


@dataclass(frozen=True, slots=True)
class Case:
    """A redirect router, an address, and exim4's answer."""

    options: str
    address: str
    exim: str = ""

    def configuration(self, folder: str) -> str:
        """Return a whole configuration for it."""
        lines = "".join(f"  {line}\n" for line in self.options.splitlines())
        text = CONFIGURATION.replace("ROUTERS", ROUTER + lines)
        return text.replace("DIR", folder)


def cases() -> list[Case]:
    """Return the recorded cases."""
    return [Case(**each) for each in json.loads(RECORD.read_text("utf-8"))]


def fill(folder: Path) -> None:
    """Make the files that cases name."""
    for name, text in FILES.items():
        (folder / name).write_text(text.replace("DIR", str(folder)))
        (folder / name).chmod(0o644)


# Addresses of cases that mailsrv answers in another way, and why.
OURS = {
    "bsd@q.example": "the backslash before an address with a domain is taken off",
    "p56@q.example": "a quoted @ outside quotes is malformed",
}


# --- answers in one form -----------------------------------------------------------

Answer = tuple[str, ...]
_HEAD = re.compile(r"(?P<address>.*?)(?: is undeliverable: (?P<failed>.*)| cannot be resolved at "
                   r"this time: (?P<deferred>.*)|   \[duplicate, would not be delivered\])?",
                   re.DOTALL)  # fmt: skip
_SYNTAX = re.compile(
    r'(?:missing|malformed|domain|unmatched|no local part|"@" or "\." expected).* in ".*"\Z',
    re.DOTALL,
)


def said(reason: str) -> str:
    """Return a reason without what each program says in its own words."""
    text = reason.split("\n")[0].removesuffix(" (No such file or directory)")
    return _SYNTAX.sub("malformed", text)


def of_exim(output: str) -> list[Answer]:
    """Return what ``exim4 -bt`` has printed."""
    answers: list[Answer] = []
    lines = [line for line in output.split("\n") if line.strip()]
    position = 0
    while position < len(lines):
        line = lines[position]
        position += 1
        if line.startswith("mail to "):
            answers.append(("discarded", line[8:].removesuffix(" is discarded")))
            continue
        parents = []
        while position < len(lines) and lines[position].startswith("    <-- "):
            parents.append(lines[position][8:])
            position += 1
        if " -> " in line and not parents:
            parent, _, place = line.partition(" -> ")
            what = lines[position].strip()
            position += 1
            if what.startswith("*** Error"):
                what = lines[position].strip()
                position += 1
                answers.append(("no place", place, parent, what.partition(" in ")[0]))
            else:
                answers.append(("place", place, parent, what.partition(" = ")[2]))
            continue
        found = _HEAD.fullmatch(line)
        assert found is not None
        parents = _without_copies(found["address"], parents)
        if line.endswith("would not be delivered]"):
            position += 1
            continue
        if found["failed"] is not None or found["deferred"] is not None:
            kind = "failed" if found["failed"] is not None else "deferred"
            answers.append((kind, found["address"], *parents, said(found[kind])))
            while (
                position < len(lines)
                and not lines[position].startswith((" ", "\t"))
                and ("@" not in lines[position])
            ):
                position += 1  # a text of several lines
            continue
        answers.append(("delivered", found["address"], *parents, lines[position].strip()))
        position += 1
    return sorted(set(answers))


def of_mailsrv(address: str, routed: Routed) -> list[Answer]:
    """Return what routing has answered."""
    answers: list[Answer] = []
    if routed.status is not None:
        kind = "failed" if routed.status.permanent else "deferred"
        answers.append((kind, address, said(routed.told or routed.reason)))
    for each in routed.addresses:
        if each.place:
            answers.append(("place", each.address, *_parents(each)[:1], each.transport))
        else:
            where = f"router = {each.router}, transport = {each.transport}"
            answers.append(("delivered", each.address, *_parents(each), where))
    for each in routed.discarded:
        parents = _parents(each)
        if each.address == "/dev/null":
            answers.append(("place", each.address, parents[0], "files"))
        else:
            answers.append(("discarded", *parents))
    for one in routed.unrouted:
        parents = _parents(one.address)
        if one.address.place:
            answers.append(("no place", one.address.address, parents[0],
                            one.reason.partition(" in ")[0]))  # fmt: skip
        else:
            kind = "failed" if one.status.permanent else "deferred"
            answers.append((kind, one.address.address, *parents, said(one.told or one.reason)))
    return sorted(set(answers))


def _parents(address: RoutedAddress) -> list[str]:
    return _without_copies(address.address, [each.address for each in address.ancestors()])


def _without_copies(address: str, parents: list[str]) -> list[str]:
    """Leave out parents that are equal: to Exim, what an unseen router leaves is a child."""
    found: list[str] = []
    for parent in parents:
        if parent != (found or [address])[-1]:
            found.append(parent)
    return found
