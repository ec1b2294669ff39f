"""Packages that some types of lookup need, and that an installation need not have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib.util import find_spec

from mailsrv.config.lines import Line

# Type of lookup: the module that it imports, and the package that has it.
_PACKAGES = {
    "lmdb": ("lmdb", "lmdb"),
    "mysql": ("pymysql", "PyMySQL"),
    "pgsql": ("psycopg", "psycopg"),
    "redis": ("redis", "redis"),
}
_USE = re.compile(rf"(?<![\w$-])({'|'.join(_PACKAGES)})(?:\*@?)?(?:,[^{{;\s]*)?(?:[ \t\n]*\{{|;)")


def absent(lines: Iterable[Line]) -> Iterator[str]:
    """Yield a warning for each type of lookup that is used and whose package is not installed.

    The warning stands at its first use; such a lookup defers.
    """
    seen = set()
    for line in lines:
        for kind in _USE.findall(line.text):
            module, package = _PACKAGES[kind]
            if kind not in seen and find_spec(module) is None:
                yield (
                    f"{line.where}: lookups of the type {kind} will defer: the Python package "
                    f"{package} is not installed (pip install 'mailsrv[{kind}]')"
                )
            seen.add(kind)
