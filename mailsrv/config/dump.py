"""What ``-bP`` prints: the values in force, in Exim's words (chapter 5).

Options of ours come after Exim's, below a comment line, so that all other lines
can be compared with Exim's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from mailsrv.config.builtin import builtin_macros
from mailsrv.config.known import DOUBLE_OPTIONS, driver_options, main_options
from mailsrv.config.main import MainOptions
from mailsrv.config.model import LIST_KINDS, Configuration
from mailsrv.config.options import Option, OptionSet

OURS: Final = "# mailsrv's own"
_HIDDEN: Final = "<value not displayable>"
_MAIN: Final = MainOptions.options()
_KINDS: Final = ("router", "transport", "authenticator")


class NotFound(Exception):
    """What was asked for is not there; the text says so as Exim does."""


class NotPermitted(Exception):
    """What was asked for is shown to administrators alone."""


class Dump:
    """Prints a configuration.

    ``admin`` tells whether values set with ``hide`` are shown; ``names`` is
    False for ``-n``: values alone.
    """

    def __init__(
        self, configuration: Configuration, *, admin: bool = True, names: bool = True
    ) -> None:
        self._configuration = configuration
        self._admin = admin
        self._names = names

    def show(self, arguments: Sequence[str]) -> Iterator[str]:
        """Yield the lines for the words after ``-bP``.

        :raises NotFound: for a word that names nothing; later words can still be asked for.
        :raises NotPermitted: the caller may not see it.
        """
        if not arguments:
            yield from self._main()
        elif len(arguments) == 2:
            yield from self._named(*arguments)
        else:
            yield from self._word(arguments[0])

    def _word(self, word: str) -> Iterator[str]:
        kind = word.removesuffix("_list").removesuffix("s")
        whole: dict[str, Callable[[], Iterator[str]]] = {
            "all": self._main,
            "config": self._config,
            "configure_file": self._file,
            "config_file": self._file,
            "macros": self._macros,
            "macro_list": lambda: iter(self._all_macros()),
        }
        if word in whole:
            yield from whole[word]()
        elif word.startswith("+"):
            yield from self._named_list(word[1:])
        elif kind in _KINDS and word == f"{kind}_list":
            yield from (each.name for each in self._configuration.instances(kind))
        elif kind in _KINDS and word == f"{kind}s":
            for each in self._configuration.instances(kind):
                yield from ("", f"{each.name} {kind}:", *self._instance(each))
        elif word in _MAIN:
            yield self._line(self._configuration.main, _MAIN[word])
        elif word in main_options():
            raise NotFound(f"{word} is known to Exim, not to mailsrv")
        else:
            raise NotFound(f"{word} is not a known option")

    def _named(self, kind: str, name: str) -> Iterator[str]:
        """Yield a driver instance or a macro."""
        if kind == "macro":
            macros = self._all_macros()
            if name not in macros:
                raise NotFound(f"macro {name} not found")
            yield f"{name}={macros[name]}" if self._names else macros[name]
            return
        for each in self._configuration.instances(kind):
            if each.name == name:
                yield from self._instance(each)
                return
        raise NotFound(f"{kind} {name} not found")

    # --- wholes --------------------------------------------------------------------

    def _main(self) -> Iterator[str]:
        main = self._configuration.main
        yield from (self._line(main, each) for each in _MAIN.values() if not each.ours)
        yield OURS
        yield from (self._line(main, each) for each in _MAIN.values() if each.ours)

    def _macros(self) -> Iterator[str]:
        for name, value in self._all_macros().items():
            yield f"{name}={value}" if self._names else value

    def _all_macros(self) -> dict[str, str]:
        """The built-in macros, then those of the configuration.

        :raises NotPermitted: they may hold passwords.
        """
        if not self._admin:
            raise NotPermitted("permission denied")
        return {**dict.fromkeys(sorted(builtin_macros()), "y"), **self._configuration.macros}

    def _file(self) -> Iterator[str]:
        yield self._configuration.file

    def _config(self) -> Iterator[str]:
        """Yield the logical lines, with a comment where the file changes.

        They are indented by what they are, and runs of white space are one blank; without
        names (``-n``) there is nothing but them.
        """
        step = "  " if self._names else ""
        file, indent = "", ""
        yield "# Exim Configuration (4.96)"
        for line in self._configuration.lines:
            if line.where.file != file:
                number = line.where.line if file else 1
                file = line.where.file
                yield f'# {number} "{file}"'
            text = " ".join(line.text.split())
            if text.startswith("begin "):
                yield from [""] if self._names else []
                yield text
                indent = step
            elif text.endswith(":") and "=" not in text:
                yield from [""] if self._names else []
                yield step + text
                indent = 2 * step
            else:
                yield indent + (text if self._admin else _shown(text))

    def _named_list(self, name: str) -> Iterator[str]:
        found = False
        for kind in LIST_KINDS:
            each = self._configuration.named_lists[kind].get(name)
            if each is not None:
                found = True
                value = _HIDDEN if each.hidden else each.template.source
                yield f"{kind}list {name} = {value}" if self._names else value
        if not found:
            raise NotFound(f'no address, domain, host, or local part list called "{name}" exists')

    def _instance(self, instance: OptionSet) -> Iterator[str]:
        """Yield generic options, private ones, then those that Exim does not have."""
        declared = {
            name: option
            for name, option in type(instance).options().items()
            if (instance.kind, name) not in DOUBLE_OPTIONS
        }
        generic = driver_options(instance.kind, "")
        lines = {
            name: self._line(instance, option)
            for name, option in declared.items()
            if name in generic and not option.ours
        }
        lines["driver"] = f"driver = {instance.driver}" if self._names else instance.driver
        yield from (lines[name] for name in sorted(lines))
        rest = [option for name, option in declared.items() if name not in lines]
        yield from (self._line(instance, option) for option in rest if not option.ours)
        ours = [self._line(instance, option) for option in rest if option.ours]
        if ours:
            yield from (OURS, *ours)

    # --- one option ----------------------------------------------------------------

    def _line(self, options: OptionSet, option: Option[Any]) -> str:
        name = option.name
        if self._hides(options, name) and not option.type.optional_value:
            return f"{name} = {_HIDDEN}" if self._names else _HIDDEN
        line = option.type.line(name, options.values.get(name, option.default))
        return line if self._names or " =" not in line else line.partition(" =")[2].lstrip(" ")

    def _hides(self, options: OptionSet, name: str) -> bool:
        """Tell whether a value is hidden: ``hide`` counts for all instances of a driver."""
        if self._admin:
            return False
        if options.kind == "main":
            return name in options.hidden
        return any(
            name in each.hidden
            for each in self._configuration.instances(options.kind)
            if each.driver == options.driver
        )


def _shown(text: str) -> str:
    """A line as others than administrators see it: macros and what is hidden have no values."""
    if not text[:1].isupper() and not text.startswith("hide "):
        return text
    return f"{text.partition('=')[0].rstrip()} = {_HIDDEN}"
