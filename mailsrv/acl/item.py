"""What conditions and modifiers have in common, and how one is found by its name.

A condition is one file in ``acl/conditions/`` (its name in the configuration is
the file's name) with one subclass of :class:`Item`; the modifiers, which are
one-liners mostly, are in ``acl/modifiers.py`` and ``acl/controls.py``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mailsrv.acl.model import ALL_PHASES, PHASE_NAMES, Undecided
from mailsrv.errors import ConfigError, Position
from mailsrv.expansion.template import Template, compile_string
from mailsrv.interfaces import AclPhase

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation

# Conditions of Exim 4.96 that mailsrv does not have.
_UNBUILT = (
    *("decode", "dkim_signers", "dkim_status", "malware", "mime_regex"),
    *("spam", "spf", "spf_guess"),
)


class Item:
    """A condition or modifier with its argument.

    Subclasses declare where they are allowed and override :meth:`test`.
    ``deed`` is the word of Exim's message for a wrong phase.  ``late`` is a
    fault of the argument that makes the ACL fail when the item is reached.
    """

    name: ClassVar[str] = ""
    deed: ClassVar[str] = "test"
    negatable: ClassVar[bool] = True
    takes_argument: ClassVar[bool] = True
    phases: ClassVar[frozenset[AclPhase]] = ALL_PHASES
    verbs: ClassVar[frozenset[str] | None] = None  # None: allowed with every verb

    def __init__(self, argument: str, where: Position | None) -> None:
        self.argument: Template = compile_string(argument, where)
        self.where = where
        self.late: ConfigError | None = None

    def templates(self) -> Iterator[Template]:
        """The strings of the item."""
        yield self.argument

    def notes(self) -> Iterator[str]:
        """Yield what an administrator should know of an item that can be used."""
        yield from ()

    def check_phase(self, phase: AclPhase) -> None:
        """Refuse an item that makes no sense in an ACL of this phase.

        :raises Undecided: as an error, with Exim's message.
        """
        if phase not in self.phases:
            raise Undecided(
                log=f"cannot {self.deed} {self.name} condition in {PHASE_NAMES[phase]} ACL",
                error=True,
            )

    async def test(self, run: Evaluation) -> bool:
        """Tell whether the condition is met; a modifier takes effect and is.

        :raises ForcedFailure: the condition counts as met, negated or not.
        :raises Undecided: it cannot be told now.
        :raises ExpansionError: as an undecided condition.
        :raises Discarded: a nested ACL discards.
        """
        raise NotImplementedError


class Unbuilt(Item):
    """A condition of Exim's that is not built: the ACL fails when it comes to it."""

    def __init__(self, argument: str, where: Position | None) -> None:
        super().__init__(argument, where)
        self.late = not_in_mailsrv(f'ACL condition "{self.name}"', where)

    async def test(self, run: Evaluation) -> bool:
        """See :meth:`Item.test`."""
        assert self.late is not None
        raise Undecided(log=self.late.problem, error=True)


def condition_names() -> list[str]:
    """Names of the conditions that mailsrv has."""
    folder = Path(__file__).parent / "conditions"
    return sorted(file.stem for file in folder.glob("[a-z]*.py"))


def _condition(name: str) -> type[Item] | None:
    """Import the condition of this name; None if there is none."""
    if name not in condition_names():
        return None
    module = importlib.import_module(f"mailsrv.acl.conditions.{name}")
    for value in vars(module).values():
        is_kind = isinstance(value, type) and issubclass(value, Item)
        if is_kind and value.__dict__.get("name") == name:
            kind: type[Item] = value
            return kind
    raise TypeError(f"{module.__name__} declares no condition called {name}")


_found: dict[str, type[Item]] = {}


def find(name: str) -> type[Item] | None:
    """Return the condition or modifier with this name; None if nobody knows it."""
    if name not in _found:
        from mailsrv.acl.controls import Control
        from mailsrv.acl.modifiers import MODIFIERS

        builtin: list[type[Item]] = [*MODIFIERS, Control]
        builtin += [type(name, (Unbuilt,), {"name": name}) for name in _UNBUILT]
        _found.update({item.name: item for item in builtin})
        kind = _found.get(name) or _condition(name)
        if kind is None:
            return None
        _found[name] = kind
    return _found[name]


def all_names() -> list[str]:
    """Names of all conditions and modifiers, for "did you mean"."""
    find("set")
    return sorted({*_found, *condition_names()})


def not_in_mailsrv(what: str, where: Position | None) -> ConfigError:
    """Return the error for something of Exim's that is not built."""
    return ConfigError(f"{what} is known to Exim, not to mailsrv", where)
