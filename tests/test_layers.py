"""Who may import whom: the height of each part of mailsrv, kept true by reading the imports.

A module imports its own folder and parts of a lower number; equal numbers are strangers.  Imports
inside functions and under ``TYPE_CHECKING`` count like all others.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[1] / "mailsrv"
HEIGHTS = {
    "mail": 0,
    "errors": 1,
    "interfaces": 2,
    "wire": 3,
    "expansion": 4,
    "config": 5,
    "net": 6,
    **dict.fromkeys(("dns", "lookup", "msgauth", "spool", "logs"), 7),
    **dict.fromkeys(("connection", "auth", "acl", "queue", "routing", "transport"), 8),
    "service": 9,
    "commands": 10,
    "tap": 10,
    "__main__": 11,
}
LIGHT = 5  # up to this height nothing of twisted is imported but Deferred and its kin
MAY_HOLD_THE_REACTOR = {"service", "tap"}


def part(path: Path) -> str:
    """Return the part that a module belongs to: the first name below ``mailsrv``."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(source: str, package: str) -> Iterator[tuple[int, str]]:
    """Give line and absolute dotted name of everything that a module of ``package`` imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def fault(own: str, name: str) -> str:
    """Return why a module of the part ``own`` may not import ``name``; "" if it may."""
    words = name.split(".")
    if words[:3] == ["twisted", "internet", "reactor"] and own not in MAY_HOLD_THE_REACTOR:
        return "takes the global reactor"
    if words[:2] == ["twisted", "internet"] and words[2:3] != ["defer"] and HEIGHTS[own] <= LIGHT:
        return "is of a part that knows nothing of the reactor"
    if words[0] != "mailsrv" or len(words) < 2 or words[1] == "__version__":
        return ""
    other = words[1]
    if other not in HEIGHTS:
        return "is of no known part"
    if other != own and HEIGHTS[other] >= HEIGHTS[own]:
        return f"points up or aside: {own} is {HEIGHTS[own]}, {other} is {HEIGHTS[other]}"
    return ""


class LayerTests(SynchronousTestCase):
    """Each import of the package points down."""

    def test_every_part_has_a_height(self) -> None:
        parts = {part(path) for path in ROOT.rglob("*.py")} - {"__init__"}
        self.assertEqual(parts - set(HEIGHTS), set())

    def test_imports_point_down(self) -> None:
        faults = []
        for path in sorted(ROOT.rglob("*.py")):
            if path == ROOT / "__init__.py":
                continue
            package = ".".join(path.parent.relative_to(ROOT.parent).parts)
            for line, name in imports(path.read_text("utf-8"), package):
                if why := fault(part(path), name):
                    faults.append(f"{path.relative_to(ROOT.parent)}:{line}: {name} {why}")
        self.assertEqual(faults, [], "\n" + "\n".join(faults))


class CheckerTests(SynchronousTestCase):
    """The test above is able to fail."""

    def faults(self, own: str, source: str) -> list[str]:
        return [name for _, name in imports(source, f"mailsrv.{own}") if fault(own, name)]

    def test_up_and_aside_are_faults(self) -> None:
        self.assertEqual(self.faults("mail", "import mailsrv.errors"), ["mailsrv.errors"])
        self.assertEqual(self.faults("acl", "from mailsrv.queue import x"), ["mailsrv.queue.x"])
        self.assertEqual(self.faults("acl", "from mailsrv import queue"), ["mailsrv.queue"])
        self.assertEqual(self.faults("acl", "from ..queue import x"), ["mailsrv.queue.x"])

    def test_down_and_own_are_none(self) -> None:
        self.assertEqual(self.faults("acl", "from mailsrv.wire import x\nfrom .run import y"), [])

    def test_hidden_imports_count(self) -> None:
        hidden = (
            "if TYPE_CHECKING:\n  from mailsrv.tap import x\ndef f():\n  import mailsrv.service"
        )
        self.assertEqual(len(self.faults("queue", hidden)), 2)

    def test_the_global_reactor(self) -> None:
        source = "from twisted.internet import reactor"
        self.assertEqual(len(self.faults("queue", source)), 1)
        self.assertEqual(self.faults("service", source), [])
        self.assertEqual(len(self.faults("mail", "from twisted.internet import task")), 1)
        self.assertEqual(self.faults("mail", "from twisted.internet.defer import Deferred"), [])


class StartTests(SynchronousTestCase):
    def test_commands_that_read_a_configuration_start_without_a_reactor(self) -> None:
        """Importing Twisted's networking takes longer than all that -bV or -be does."""
        loaded = "import mailsrv.commands.main, mailsrv.config.read, mailsrv.commands.expand"
        code = f"{loaded}, sys; print([m for m in sys.modules if m.startswith('twisted.internet')])"
        said = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            cwd=ROOT.parent,
            check=True,
        )
        self.assertEqual(said.stdout.strip(), "[]")
