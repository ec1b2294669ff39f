"""What is packaged: metadata, entry points, and the content of a built wheel and sdist.

The built files are looked at where ``MAILSRV_DIST`` names their folder, as ``make check`` does.
"""

from __future__ import annotations

import ast
import configparser
import os
import re
import tarfile
import zipfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

ROOT = Path(__file__).resolve().parents[1]


def modules() -> set[str]:
    """Paths of all modules to be packaged, relative to the checkout."""
    found = {str(path.relative_to(ROOT)) for path in (ROOT / "mailsrv").rglob("*.py")}
    return found | {"twisted/plugins/mailsrv_plugin.py"}


class MetadataTests(SynchronousTestCase):
    """``setup.cfg`` and the files that tools find by their place."""

    def setUp(self) -> None:
        self.setup = configparser.ConfigParser()
        self.setup.read(ROOT / "setup.cfg", "utf-8")

    def test_entry_points_exist(self) -> None:
        text = self.setup["options.entry_points"]["console_scripts"]
        names = dict(line.split(" = ") for line in text.strip().split("\n"))
        commands = {"mailsrv", "mailsrv-passwd", "mailsrv-dbmbuild", "mailsrv-sendmail"}
        self.assertEqual(set(names), commands)
        for target in names.values():
            module, function = target.split(":")
            tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text("utf-8"))
            defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            self.assertIn(function, defined, target)

    def test_every_folder_of_modules_is_a_package(self) -> None:
        folders = {path.parent for path in (ROOT / "mailsrv").rglob("*.py")}
        self.assertEqual([str(f) for f in folders if not (f / "__init__.py").exists()], [])

    def test_the_plugin_folders_are_no_packages(self) -> None:
        """Twisted takes plugins only from folders without ``__init__.py``."""
        self.assertEqual(list((ROOT / "twisted").rglob("__init__.py")), [])

    def test_plugin_is_found(self) -> None:
        from twisted.application.service import IServiceMaker
        from twisted.plugin import getPlugins

        self.assertIn("mailsrv", [plugin.tapname for plugin in getPlugins(IServiceMaker)])

    def test_versions_agree(self) -> None:
        from mailsrv import __version__

        changelog = (ROOT / "debian/changelog").read_text("utf-8")
        self.assertIn(f"mailsrv ({__version__}", changelog.split("\n")[0])
        self.assertIn(f"## {__version__}", (ROOT / "CHANGELOG.md").read_text("utf-8"))

    def test_debian_depends_on_what_is_required(self) -> None:
        """Each required package has its Debian package in ``debian/control``."""
        control = (ROOT / "debian/control").read_text("utf-8")
        required = self.setup["options"]["install_requires"].strip().split("\n")
        names = {re.split("[>=<]", line)[0] for line in required}
        debian = {"pyopenssl": "openssl", "argon2-cffi": "argon2"}
        for name in names:
            self.assertIn(f"python3-{debian.get(name, name)}", control)


class BuiltTests(SynchronousTestCase):
    """What a wheel and an sdist hold."""

    def setUp(self) -> None:
        folder = os.environ.get("MAILSRV_DIST")
        if not folder:
            raise SkipTest("MAILSRV_DIST names no folder of built files")
        (self.wheel,) = Path(folder).glob("*.whl")
        (self.sdist,) = Path(folder).glob("*.tar.gz")

    def test_wheel_holds_every_module_and_nothing_else(self) -> None:
        with zipfile.ZipFile(self.wheel) as wheel:
            found = {name for name in wheel.namelist() if ".dist-info/" not in name}
        self.assertEqual(found, modules() | {"mailsrv/py.typed"})

    def test_wheel_declares_the_commands(self) -> None:
        with zipfile.ZipFile(self.wheel) as wheel:
            (name,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
            text = wheel.read(name).decode()
        for command in ("mailsrv", "mailsrv-passwd", "mailsrv-dbmbuild"):
            self.assertRegex(text, f"(?m)^{command} = ")

    def test_sdist_can_be_built_from(self) -> None:
        with tarfile.open(self.sdist) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        self.assertLessEqual(
            modules() | {"setup.cfg", "pyproject.toml", "LICENSE", "README.md"}, names
        )
