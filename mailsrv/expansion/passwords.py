"""Comparing a password with a stored hash: ``crypteq`` (specification 11.7).

``{md5}`` and ``{sha1}`` are computed here; ``$argon2…`` is argon2-cffi's;
all that ``crypt()`` knows (``$y$``, ``$6$``, ``$2b$``, DES) is the system's
libcrypt's.  Slow by design: to be run in a thread.
"""

from __future__ import annotations

import base64
import ctypes
import ctypes.util
import hashlib
import hmac
import re
from functools import cache

from mailsrv.expansion.errors import ExpansionError

_CRYPT_DATA_SIZE = 32768  # sizeof(struct crypt_data) of libxcrypt, glibc's is larger
_CRYPT_DATA_ROOM = 8 * _CRYPT_DATA_SIZE
_SCHEME = re.compile(r"\{([A-Za-z0-9]+)\}(.*)\Z", re.DOTALL)


def _same(first: bytes, second: bytes) -> bool:
    return hmac.compare_digest(first, second)


def _digest(name: str, password: bytes, stored: str) -> bool:
    """An MD5 or SHA-1 digest, in base64 or hexadecimal by its length."""
    digest = hashlib.new(name, password, usedforsecurity=False).digest()
    if len(stored) == len(digest) * 2:
        return _same(digest.hex().encode(), stored.lower().encode("latin-1"))
    encoded = base64.b64encode(digest)
    return len(stored) == len(encoded) and _same(encoded, stored.encode("latin-1"))


@cache
def _libcrypt() -> ctypes.CDLL | None:
    for name in (ctypes.util.find_library("crypt"), "libcrypt.so.1", "libcrypt.so.2"):
        if name:
            try:
                library = ctypes.CDLL(name)
                library.crypt_r.restype = ctypes.c_char_p
                library.crypt_r.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
            except (OSError, AttributeError):
                continue
            return library
    return None


def crypt(password: bytes, setting: bytes) -> bytes | None:
    """The system's ``crypt()``, safe in threads; None if it does not know the setting.

    :raises ExpansionError: this system has no libcrypt.
    """
    library = _libcrypt()
    if library is None:
        raise ExpansionError("crypteq: this system has no libcrypt")
    if b"\0" in password or b"\0" in setting:
        return None
    room = ctypes.create_string_buffer(_CRYPT_DATA_ROOM)
    result: bytes | None = library.crypt_r(password, setting, room)
    return None if not result or result[:1] == b"*" else result


def _argon2(password: bytes, stored: str) -> bool:
    try:
        import argon2
    except ImportError:
        raise ExpansionError("crypteq: argon2-cffi is needed for $argon2 hashes") from None
    try:
        return argon2.PasswordHasher().verify(stored, password)
    except argon2.exceptions.VerifyMismatchError:
        return False
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHash):
        return False


def _crypt(password: bytes, stored: str) -> bool:
    if not stored:
        return False
    if stored.startswith("$argon2"):
        return _argon2(password, stored)
    right = stored.encode("latin-1")
    if len(right) < 13:
        return False  # shorter than any hash: a locked account's "*" or "!"
    result = crypt(password, right)
    return result is not None and _same(result, right)


def _crypt16(password: bytes, stored: str) -> bool:
    """Exim's own: two crypts of eight characters each, with one salt."""
    right = stored.encode("latin-1")
    first, second = crypt(password[:8], right[:2]), crypt(password[8:16], right[:2])
    return first is not None and second is not None and _same(first + second[2:], right)


def check_password(given: str, stored: str) -> bool:
    """Compare a password with a hash.

    :raises ExpansionError: the hash's scheme is not known.
    """
    password = given.encode("latin-1")
    match = _SCHEME.match(stored)
    if match is None:
        if stored.startswith("{"):
            raise ExpansionError(f'unknown encryption mechanism in "{stored}"')
        return _crypt(password, stored)
    scheme, rest = match[1].lower(), match[2]
    if scheme in ("md5", "sha1"):
        return _digest(scheme, password, rest)
    if scheme == "crypt":
        return _crypt(password, rest)
    if scheme == "crypt16":
        return _crypt16(password, rest)
    raise ExpansionError(f'unknown encryption mechanism in "{stored[: stored.index("}") + 1]}"')


def hash_password(password: str) -> str:
    """The hash that ``mailsrv-passwd`` stores: Argon2id with the library's parameters.

    :raises ImportError: argon2-cffi is not installed.
    """
    import argon2

    return argon2.PasswordHasher().hash(password.encode("latin-1"))
