"""The packages that lookups need: one table, the project's extras, and what is imported."""

from __future__ import annotations

import configparser
import re
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

from mailsrv.config import packages
from mailsrv.config.lines import Line
from mailsrv.errors import Position

ROOT = Path(packages.__file__).parents[2]


def test_the_table_is_what_is_imported_and_what_can_be_installed() -> None:
    setup = configparser.ConfigParser()
    if setup.read(ROOT / "setup.cfg"):  # not beside an installed mailsrv
        extras = {
            kind: re.split("[<>=]", text.strip())[0]
            for kind, text in setup["options.extras_require"].items()
        }
        assert extras == {kind: package for kind, (_, package) in packages._PACKAGES.items()}
    for kind, (module, _) in packages._PACKAGES.items():
        spec = find_spec(f"mailsrv.lookup.{kind}")
        assert spec is not None and spec.origin is not None
        assert re.search(rf"\b{module}\b", Path(spec.origin).read_text())


def test_a_warning_for_each_kind_at_its_first_use() -> None:
    texts = [
        "primary_hostname = pgsql.example",
        "domainlist a = pgsql;SELECT 1",
        "x = ${lookup pgsql{SELECT 2}}",
        "y = ${lookup redis,servers=a {GET x}}",
    ]
    lines = [Line(text, Position("f", number)) for number, text in enumerate(texts, 1)]
    with mock.patch.object(packages, "find_spec", return_value=None):
        warnings = list(packages.absent(lines))
    assert [re.findall(r"line (\d+).*type (\w+)", each) for each in warnings] == [
        [("2", "pgsql")],
        [("4", "redis")],
    ]
    with mock.patch.object(packages, "find_spec"):
        assert not list(packages.absent(lines))
