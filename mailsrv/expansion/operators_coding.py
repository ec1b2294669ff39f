"""Operators that encode, decode and digest (specification 11.6)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from ssl import PEM_cert_to_DER_cert

from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.operators import op
from mailsrv.mail.connection import PeerCertificate

_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_HIGHEST = (1 << 64) - 1
_SHORT = {"\n": "\\n", "\r": "\\r", "\b": "\\b", "\v": "\\v", "\f": "\\f"}


def _octal(character: str) -> str:
    return _SHORT.get(character) or f"\\{ord(character):03o}"


@op("escape")
def _escape(text: str) -> str:
    return re.sub(r"[^\t -~]", lambda match: _octal(match[0]), text)


@op("escape8bit")
def _escape8bit(text: str) -> str:
    return re.sub(r"[\x80-\xff\x7f\\]", lambda match: f"\\{ord(match[0]):03o}", text)


@op("hexquote")
def _hexquote(text: str) -> str:
    return re.sub(r"[^!-~]", lambda match: f"\\x{ord(match[0]):02x}", text)


@op("base64", "str2b64")
def _base64(text: str) -> str:
    return base64.b64encode(text.encode("latin-1")).decode("ascii")


@op("base64d")
def _base64d(text: str) -> str:
    packed = re.sub(r"[ \t\n\r]", "", text)
    try:
        return binascii.a2b_base64(packed.encode("latin-1"), strict_mode=True).decode("latin-1")
    except (binascii.Error, ValueError):
        raise ExpansionError(f'string "{text}" is not well-formed for "base64d" operator') from None


@op("hex2b64")
def _hex2b64(text: str) -> str:
    for character in text:
        if character not in "0123456789abcdefABCDEF":
            raise ExpansionError(f'"{text}" is not a hex string')
    if len(text) % 2:
        raise ExpansionError(f'"{text}" contains an odd number of characters')
    return base64.b64encode(bytes.fromhex(text)).decode("ascii")


def _digits(text: str, name: str, kind: str, alphabet: str) -> int:
    if name.endswith("d"):
        number = 0
        for character in text:
            digit = alphabet.find(character)
            if digit < 0:
                raise ExpansionError(
                    f'argument for {name} operator is "{text}", which is not a {kind} number'
                )
            number = (number * len(alphabet) + digit) % (1 << 64)
        return number
    match = re.fullmatch(r"(?:[ \t\n\r\v\f]*([+-]?)([0-9]+))?", text, re.ASCII)
    if not match:
        raise ExpansionError(
            f'argument for {name} operator is "{text}", which is not a decimal number'
        )
    number = min(int((match[2] or "0")[:40]), _HIGHEST)  # as C reads an unsigned number
    return (-number if match[1] == "-" else number) & _HIGHEST


def _based(number: int, alphabet: str) -> str:
    result = ""
    while number:
        number, digit = divmod(number, len(alphabet))
        result = alphabet[digit] + result
    return result


@op("base32", clean=True)
def _base32(text: str) -> str:
    return _based(_digits(text, "base32", "", _BASE32), _BASE32)


def _signed(number: int) -> str:
    return str(number - (1 << 64) if number >> 63 else number)


@op("base32d", clean=True)
def _base32d(text: str) -> str:
    return _signed(_digits(text, "base32d", "base 32", _BASE32))


@op("base62", clean=True)
def _base62(text: str) -> str:
    return _based(_digits(text, "base62", "", _BASE62), _BASE62).rjust(6, "0")[-6:]


@op("base62d", clean=True)
def _base62d(text: str) -> str:
    return _signed(_digits(text, "base62d", "base 62", _BASE62))


def _digest(new: Callable[..., hashlib._Hash], text: str) -> str:
    """Of ``$tls_in_peercert`` alone it is the certificate's fingerprint, in upper case."""
    if isinstance(text, PeerCertificate):
        return new(PEM_cert_to_DER_cert(text)).hexdigest().upper()
    return new(text.encode("latin-1")).hexdigest()


@op("md5", clean=True)
def _md5(text: str) -> str:
    return _digest(hashlib.md5, text)


@op("sha1", clean=True)
def _sha1(text: str) -> str:
    return _digest(hashlib.sha1, text).upper()


@op("sha256", clean=True)
def _sha256(text: str) -> str:
    return _digest(hashlib.sha256, text).upper()


_SHA2 = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}
_SHA3 = {
    "224": hashlib.sha3_224,
    "256": hashlib.sha3_256,
    "384": hashlib.sha3_384,
    "512": hashlib.sha3_512,
}


@op("sha2", clean=True, argument=True)
def _sha2(text: str, name: str, argument: str | None) -> str:
    new = _SHA2.get("256" if argument is None else argument)
    if new is None:
        raise ExpansionError("unrecognised sha2 variant")
    return _digest(new, text).upper()


@op("sha3", clean=True, argument=True)
def _sha3(text: str, name: str, argument: str | None) -> str:
    new = _SHA3.get("256" if argument is None else argument)
    if new is None:
        raise ExpansionError("unrecognised sha3 variant")
    return _digest(new, text).upper()


@op("from_utf8")
def _from_utf8(text: str) -> str:
    decoded = text.encode("latin-1").decode("utf-8", "replace")
    return "".join(character if ord(character) < 256 else "_" for character in decoded)


@op("utf8clean")
def _utf8clean(text: str) -> str:
    # a surrogate's three octets are one wrong sequence, not three
    raw = re.sub(rb"\xed[\xa0-\xbf][\x80-\xbf]", b"?", text.encode("latin-1"))
    return raw.decode("utf-8", "replace").replace("\ufffd", "?").encode("utf-8").decode("latin-1")


@op("xtextd")
def _xtextd(text: str) -> str:
    return re.sub(r"\+([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), text)
