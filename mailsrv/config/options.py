"""One declaration per option (design, decision 1).

A driver class declares its options once::

    class Lmtp(Transport):
        socket = option(EXPANDED, help="Unix-domain socket to connect to")
        batch_max = option(INTEGER, default=1, help="recipients in one transaction")

Reading a file, type errors, "did you mean", ``-bP`` and the manual's tables
come from these declarations.  On a class the attribute is the
:class:`Option`; on an instance it is the value in force.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, cached_property
from typing import Any, ClassVar, Generic, Self, TypeVar, cast, overload

from mailsrv.config.known import is_unbuilt
from mailsrv.config.types import OptionType
from mailsrv.errors import ConfigError, Position
from mailsrv.expansion.template import Template

T = TypeVar("T")


class Option(Generic[T]):
    """The declaration of an option: its type, default and one line of help.

    ``ours`` marks what Exim does not have.  ``default`` is the value in force
    when the configuration does not set the option.  ``no_effect`` says why an
    option that Exim has changes nothing here; setting it is then a warning.
    ``unbuilt`` marks what mailsrv cannot do: setting it is a late fault.
    """

    def __init__(
        self,
        type: OptionType[T],
        default: T | str,
        help: str,
        *,
        ours: bool = False,
        name: str = "",
        no_effect: str = "",
        unbuilt: bool = False,
    ) -> None:
        self.type = type
        self.declared = default
        self.help = help
        self.ours = ours
        self.name = name
        self.attribute = name
        self.no_effect = no_effect
        self.unbuilt = unbuilt

    @cached_property
    def default(self) -> T:
        """The value in force without a setting; a string is compiled at its first use."""
        if self.type.expanded and isinstance(self.declared, str):
            return self.type.parse(self.declared, Position("(default)", 0))
        return cast(T, self.declared)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = self.name or name.rstrip("_")
        self.attribute = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: OptionSet, owner: type) -> T: ...
    def __get__(self, instance: OptionSet | None, owner: type) -> Self | T:
        if instance is None:
            return self
        found = self.name in instance.values
        value = cast(T, instance.values[self.name]) if found else self.default
        if instance.settled:  # the instance's own attribute is found without a call from now on
            instance.__dict__[self.attribute] = value
        return value


@overload
def option(
    type: OptionType[T],
    *,
    help: str,
    ours: bool = False,
    name: str = "",
    no_effect: str = "",
    unbuilt: bool = False,
) -> Option[T | None]: ...
@overload
def option(
    type: OptionType[Template],
    default: str,
    *,
    help: str,
    ours: bool = False,
    name: str = "",
    no_effect: str = "",
    unbuilt: bool = False,
) -> Option[Template]: ...
@overload
def option(
    type: OptionType[T],
    default: T,
    *,
    help: str,
    ours: bool = False,
    name: str = "",
    no_effect: str = "",
    unbuilt: bool = False,
) -> Option[T]: ...
def option(
    type: OptionType[Any],
    default: Any = None,
    *,
    help: str,
    ours: bool = False,
    name: str = "",
    no_effect: str = "",
    unbuilt: bool = False,
) -> Option[Any]:
    """Declare an option of a driver or of the main section.

    The default of an option that is expanded may be given as its text.
    ``name`` is given where the option's name is a word of Python (``self`` →
    attribute ``self_``, which also works without it: a trailing underscore is dropped).
    """
    return Option(type, default, help, ours=ours, name=name, no_effect=no_effect, unbuilt=unbuilt)


class OptionSet:
    """Something with declared options: the main section, or an instance of a driver.

    ``driver`` is the driver's name as configured.  ``values`` holds what the
    configuration sets, typed; ``places`` where it was set; ``hidden`` the names
    of options set with ``hide``.  ``unusable`` is the first of the faults that
    :meth:`late` gave: what reaches the driver is to be deferred.  ``settled``: ``values``
    change no more.
    """

    kind: ClassVar[str] = "main"  # main, router, transport, authenticator

    def __init__(self, name: str = "", where: Position | None = None) -> None:
        self.name = name
        self.where = where
        self.driver = ""
        self.values: dict[str, Any] = {}
        self.places: dict[str, Position] = {}
        self.hidden: set[str] = set()
        self.unusable = ""
        self.settled = False

    @classmethod
    @cache
    def options(cls) -> dict[str, Option[Any]]:
        """All options of the class by name, sorted as Exim prints them; not to be changed."""
        found: dict[str, Option[Any]] = {}
        for base in reversed(cls.__mro__):
            for value in vars(base).values():
                if isinstance(value, Option):
                    found[value.name] = value
        return dict(sorted(found.items()))

    def check(self) -> None:
        """Refuse combinations of options that cannot work, when all are read.

        :raises ConfigError: names the fault; ``where`` defaults to the driver's line.
        """

    def late(self) -> Iterator[ConfigError]:
        """Yield what makes the driver fail when it is used, after :meth:`check`.

        Such are faults that Exim finds only then, and options that are not built.
        """
        if is_unbuilt(self.kind, self.driver):
            problem = f'{self.kind} driver "{self.driver}" is known to Exim, not to mailsrv'
            yield ConfigError(problem, self.where)
        declared, whose = type(self).options(), f"{self.kind} {self.name}: " if self.name else ""
        for name, where in self.places.items():
            if name in declared and declared[name].unbuilt and self._asks(declared[name]):
                yield ConfigError(f"{whose}{name} is known to Exim, not to mailsrv", where)

    def _asks(self, declared: Option[Any]) -> bool:
        """Whether an option is set to something else than nothing, or its default."""
        value = self.values[declared.name]
        text = value.constant if isinstance(value, Template) else value
        return text not in ("", "0", False, 0) and value != declared.declared

    def notes(self) -> list[str]:
        """Return warnings for the administrator, asked for after :meth:`check`."""
        return []
