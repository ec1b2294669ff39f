"""``mailsrv-passwd``: users and their passwords in a DBM file for ``dbm`` lookups.

Passwords are kept as Argon2id hashes, which ``crypteq`` compares.  The file
is replaced in one step, under a lock, and keeps its mode and owner.
"""

from __future__ import annotations

import argparse
import fcntl
import getpass
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mailsrv.commands.dbmwriter import read_all, write_all
from mailsrv.commands.terminal import octets, say
from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.passwords import hash_password


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mailsrv-passwd", description="Keep users and hashes of their passwords in a DBM file."
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("-d", "--delete", action="store_true", help="delete the user")
    action.add_argument("-l", "--list", action="store_true", help="list the users")
    action.add_argument("--stdin", action="store_true", help="read the password from a line")
    parser.add_argument("file", help="the DBM file; made if it does not exist")
    parser.add_argument("user", nargs="?", help="the name; letters are made lower case")
    return parser


class Refused(Exception):
    """What cannot be done, in words for the user."""


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        password = sys.stdin.buffer.readline().rstrip(b"\r\n").decode("latin-1")
    else:
        password = octets(getpass.getpass("Password: "))
        if octets(getpass.getpass("Again: ")) != password:
            raise Refused("the passwords differ")
    if not password:
        raise Refused("an empty password is not accepted")
    return password


def _key(user: str) -> bytes:
    if not user or any(character < " " or character == "\x7f" for character in user):
        raise Refused("the name is empty or has control characters")
    return octets(user.lower()).encode("latin-1") + b"\0"


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Keep other calls from changing the file; its folder is locked, for the file is replaced."""
    descriptor = os.open(os.path.dirname(os.path.realpath(path)), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _list(path: str) -> None:
    os.stat(path)
    for key in sorted(read_all(path)):
        say(key.rstrip(b"\0").decode("latin-1"))


def _change(options: argparse.Namespace) -> None:
    key = _key(options.user)
    hashed = b""
    if not options.delete:
        hashed = hash_password(_password(from_stdin=options.stdin)).encode("ascii")
    with _locked(options.file):
        records = read_all(options.file)
        if options.delete:
            if records.pop(key, None) is None:
                raise Refused(f"{options.file} has no user {options.user}")
        else:
            records[key] = hashed + b"\0"
        write_all(options.file, records)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 with a message on the standard error."""
    parser = _options()
    options = parser.parse_args(argv)
    if not options.list and options.user is None:
        parser.error("a user is needed")
    try:
        if options.list:
            _list(options.file)
        else:
            _change(options)
    except (OSError, TemporaryFailure, ImportError, Refused) as error:
        print(f"mailsrv-passwd: {error}", file=sys.stderr)
        return 1
    return 0
