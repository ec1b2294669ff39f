"""The system's PCRE2, the library that Exim is linked with, through ``ctypes``.

Octets in, octets out; no UTF mode unless an expression asks for it.  A search
takes a bounded number of steps and a bounded heap (:data:`STEPS`), so that no
expression stops the server; the interpreter's lock is not held meanwhile.
docs/design.md says why this binding.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint32, c_void_p
from functools import cache

STEPS = 1_000_000  # some 50 ms; PCRE2's own default is ten times as much
_HEAP = 32 * 1024  # KiB
CASELESS = 0x00000008
_ANCHORED = 0x80000000
_NOT_EMPTY = 0x00000004
_INFO_CAPTURES = 4
_NO_MATCH = -1
_LIMITS = (-47, -48, -53, -63)  # steps, memory, depth, heap
_MESSAGE = 256


class PatternError(ValueError):
    """An expression that PCRE2 does not compile: its words, and the offset."""


class LimitError(RuntimeError):
    """A search that took more than it may."""


@cache
def _library() -> ctypes.CDLL:
    for name in ("libpcre2-8.so.0", ctypes.util.find_library("pcre2-8")):
        if name:
            try:
                library = ctypes.CDLL(name)
            except OSError:
                continue
            _declare(library)
            return library
    raise OSError(errno.ENOENT, "the library libpcre2-8 is not installed")


def _declare(library: ctypes.CDLL) -> None:
    for name, result, arguments in (
        ("compile", c_void_p, (c_char_p, c_size_t, c_uint32, POINTER(c_int), POINTER(c_size_t),
                               c_void_p)),
        ("code_free", None, (c_void_p,)),
        ("pattern_info", c_int, (c_void_p, c_uint32, c_void_p)),
        ("match_context_create", c_void_p, (c_void_p,)),
        ("set_match_limit", c_int, (c_void_p, c_uint32)),
        ("set_heap_limit", c_int, (c_void_p, c_uint32)),
        ("match_data_create", c_void_p, (c_uint32, c_void_p)),
        ("match_data_free", None, (c_void_p,)),
        ("get_ovector_pointer", POINTER(c_size_t), (c_void_p,)),
        ("match", c_int, (c_void_p, c_char_p, c_size_t, c_size_t, c_uint32, c_void_p, c_void_p)),
        ("get_error_message", c_int, (c_int, c_char_p, c_size_t)),
    ):  # fmt: skip
        function = getattr(library, f"pcre2_{name}_8")
        function.restype = result
        function.argtypes = arguments


@cache
def _context() -> int:
    """The match context with our limits; read only once it is made, so that threads share it."""
    library = _library()
    context: int = library.pcre2_match_context_create_8(None)
    library.pcre2_set_match_limit_8(context, STEPS)
    library.pcre2_set_heap_limit_8(context, _HEAP)
    return context


class Code:
    """A compiled expression.

    :raises PatternError: it is none.
    :raises OSError: the library is not installed.
    """

    __slots__ = ("_code", "_match", "captures")

    def __init__(self, pattern: bytes, options: int = 0) -> None:
        self._code: int | None = None
        library = _library()
        number, offset = c_int(), c_size_t()
        self._code = library.pcre2_compile_8(
            pattern, len(pattern), options, byref(number), byref(offset), None
        )
        if not self._code:
            message = ctypes.create_string_buffer(_MESSAGE)
            library.pcre2_get_error_message_8(number, message, _MESSAGE)
            raise PatternError(f"{message.value.decode('latin-1')} at offset {offset.value}")
        captures = c_uint32()
        library.pcre2_pattern_info_8(self._code, _INFO_CAPTURES, byref(captures))
        self.captures = captures.value
        self._match = library.pcre2_match_8

    def __del__(self) -> None:
        if self._code:
            _library().pcre2_code_free_8(self._code)

    def search(self, subject: bytes, start: int = 0, *, retry: bool = False) -> list[int] | None:
        """Search from ``start``; the offsets of the match and of each group (-1: not set).

        ``retry`` looks only for a match at ``start`` that is not empty, as one
        does after an empty one.

        :raises LimitError: it would take more than :data:`STEPS`.
        """
        library = _library()
        options = _ANCHORED | _NOT_EMPTY if retry else 0
        data = library.pcre2_match_data_create_8(self.captures + 1, None)
        if not data:
            raise LimitError("no memory for a match")
        try:
            result = self._match(
                self._code, subject, len(subject), start, options, data, _context()
            )
            if result < 0:
                if result in _LIMITS:
                    raise LimitError("the match takes too many steps or too much memory")
                return None
            vector = library.pcre2_get_ovector_pointer_8(data)
            found: list[int] = vector[: 2 * result]
            return found
        finally:
            library.pcre2_match_data_free_8(data)
