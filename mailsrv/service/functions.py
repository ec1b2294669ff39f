"""The administrator's own functions: the file of ``python_startup`` (chapter 12, for Perl there).

The file is run once, when its configuration is put in force; what it defines at
its top level can be called.  Functions run on the reactor's thread and must not
block it: what takes time is an ``async def``, or returns a Deferred.
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigError, MailFailure, Position
from mailsrv.expansion.errors import ExpansionError, ForcedFailure
from mailsrv.interfaces import IClock, IMailLog

SLOW = 0.1  # seconds that a function may hold the server up before the log says so


class Functions:
    """Provides ``IFunctions``: the public functions of a file.

    ``timeout`` is the longest that a call may wait, in seconds.

    :raises ConfigError: the file cannot be read, or fails as it is run.
    """

    def __init__(
        self,
        path: str,
        clock: IClock,
        log: IMailLog | None = None,
        *,
        timeout: float = 30.0,
        where: Position | None = None,
    ) -> None:
        self._clock = clock
        self._log = log
        self._timeout = timeout
        self._module = _load(path, where)

    async def call(self, name: str, arguments: tuple[str, ...]) -> str:
        """See :meth:`IFunctions.call`."""
        function = self._function(name)
        began = self._clock.seconds()
        try:
            result = function(*map(str, arguments))
            held = self._clock.seconds() - began
            if inspect.isawaitable(result):
                result = await self._waited(name, result)
            elif held > SLOW and self._log is not None:
                self._log.main(f"python function {name} held the server up for {held:.1f} seconds")
        except MailFailure:
            raise
        except Exception as error:
            if self._is_cancellation(error):
                raise
            if self._log is not None:
                self._log.panic(f"python function {name} failed", error)
            raise ExpansionError(f"python function {name}: {type(error).__name__}") from error
        return _text(name, result)

    def _function(self, name: str) -> Callable[..., Any]:
        function = None if name.startswith("_") else getattr(self._module, name, None)
        if not inspect.isroutine(function):
            raise ExpansionError(f'there is no python function called "{name}"')
        found: Callable[..., Any] = function
        return found

    async def _waited(self, name: str, result: Any) -> Any:
        """Wait for a coroutine or a Deferred, as long as may be."""
        from twisted.internet.defer import Deferred, TimeoutError

        waiting = Deferred.fromCoroutine(result) if inspect.iscoroutine(result) else result
        if isinstance(waiting, Deferred) and not waiting.called:
            waiting.addTimeout(self._timeout, self._clock)  # type: ignore[arg-type]
        try:
            return await waiting
        except TimeoutError:
            raise ExpansionError(f"python function {name} took too long") from None

    @staticmethod
    def _is_cancellation(error: Exception) -> bool:
        from twisted.internet.defer import CancelledError

        return isinstance(error, CancelledError)


def functions_of(
    configuration: Configuration, clock: IClock, log: IMailLog | None = None
) -> Functions | None:
    """Return the functions of a configuration; None if it has none.

    :raises ConfigError: their file cannot be read, or fails as it is run.
    """
    main = configuration.main
    if not main.python_startup:
        return None
    return Functions(
        main.python_startup,
        clock,
        log,
        timeout=main.python_timeout,
        where=main.places.get("python_startup"),
    )


def _text(name: str, result: object) -> str:
    """Return a result as a string: octets as they are, text in UTF-8; None is a forced failure."""
    if result is None:
        raise ForcedFailure(f"python function {name} returned None")
    if isinstance(result, bool):
        return "true" if result else "false"
    if isinstance(result, bytes):
        return result.decode("latin-1")
    if isinstance(result, str):
        if all(character <= "\xff" for character in result):
            return result
        return result.encode("utf-8").decode("latin-1")
    if isinstance(result, int | float):
        return str(result)
    raise ExpansionError(f"python function {name} returned a {type(result).__name__}")


def read(path: str, where: Position | None = None) -> ast.Module:
    """Read the file of python_startup, and do not run it.

    :raises ConfigError: it cannot be read, or is not Python.
    """
    try:
        return ast.parse(Path(path).read_bytes(), path)
    except OSError as error:
        problem = f"python_startup: cannot read {path}: {error.strerror}"
        raise ConfigError(problem, where) from error
    except SyntaxError as error:
        place = Position(path, error.lineno or 0)
        raise ConfigError(f"python_startup: {error.msg}", place) from error
    except ValueError as error:  # a NUL
        raise ConfigError(f"python_startup: {path}: {error}", where) from error


def _load(path: str, where: Position | None) -> types.ModuleType:
    module = types.ModuleType("mailsrv_startup")
    module.__file__ = path
    code = compile(read(path, where), path, "exec")
    try:
        exec(code, module.__dict__)  # noqa: S102  (the administrator's own file)
    except Exception as error:
        place = Position(path, _line_in(path, error))
        raise ConfigError(f"python_startup: {type(error).__name__}: {error}", place) from error
    return module


def _line_in(path: str, error: BaseException) -> int:
    """The last line of the file itself that an exception came through."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
