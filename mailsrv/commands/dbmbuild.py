"""``mailsrv-dbmbuild``: make a DBM file from a text file, as exim_dbmbuild (specification 54.9)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from mailsrv.commands.dbmwriter import write_all
from mailsrv.errors import TemporaryFailure
from mailsrv.lookup._linear import entries
from mailsrv.mail.case import lower

_NOT_MADE = 2
_DUPLICATES = 1


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mailsrv-dbmbuild",
        description="Make a DBM file for dbm lookups from a text file as lsearch reads it.",
    )
    parser.add_argument("-nolc", action="store_true", help="leave the keys' case as it is")
    parser.add_argument("-nozero", action="store_true", help="no NUL after keys and data (dbmnz)")
    parser.add_argument("-noduperr", action="store_true", help="duplicate keys are no error")
    parser.add_argument("-nowarn", action="store_true", help="do not name duplicate keys")
    parser.add_argument("-lastdup", action="store_true", help="the last duplicate counts")
    parser.add_argument("input", help="the text file, or - for the standard input")
    parser.add_argument("output", help="the DBM file")
    return parser


def collect(text: str, options: argparse.Namespace) -> tuple[dict[bytes, bytes], list[str]]:
    """Return the records of a text, and its duplicate keys."""
    end = b"" if options.nozero else b"\0"
    records: dict[bytes, bytes] = {}
    duplicates: list[str] = []
    for key, data in entries(text):
        name = key if options.nolc else lower(key)
        raw = name.encode("latin-1") + end
        if raw in records:
            duplicates.append(name)
            if not options.lastdup:
                continue
        records[raw] = data.encode("latin-1") + end
    return records, duplicates


def _read(name: str) -> str:
    if name == "-":
        return sys.stdin.buffer.read().decode("latin-1")
    with open(name, encoding="latin-1") as file:
        return file.read()


def main(argv: Sequence[str] | None = None) -> int:
    """Make the file; returns 0, 1 for duplicate keys, 2 if no file was made."""
    options = _options().parse_args(argv)
    try:
        if options.input != "-" and os.path.realpath(options.input) == os.path.realpath(
            options.output
        ):
            raise TemporaryFailure(reason="input and output filenames are the same")
        records, duplicates = collect(_read(options.input), options)
        write_all(options.output, records)
    except (OSError, TemporaryFailure) as error:
        print(f"mailsrv-dbmbuild: {error}", file=sys.stderr)
        return _NOT_MADE
    if not options.nowarn:
        for key in duplicates:
            print(f'** Duplicate key "{key}"', file=sys.stderr)
    print(f"{len(records)} entr{'y' if len(records) == 1 else 'ies'} written")
    if duplicates:
        print(f"{len(duplicates)} duplicate key{'' if len(duplicates) == 1 else 's'} ")
    return _DUPLICATES if duplicates and not options.noduperr else 0
