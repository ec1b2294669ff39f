"""Every main option does something, or says why not."""

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import mailsrv
from mailsrv.config.main.messages import MessageOptions
from mailsrv.config.main.reception import ReceptionOptions
from mailsrv.interfaces import AclPhase


class EffectTests(SynchronousTestCase):
    def test_options_are_used(self) -> None:
        """An option without ``no_effect`` is named by the code that honours it."""
        folder = Path(mailsrv.__file__).parent
        code = "\n".join(
            path.read_text("utf-8")
            for path in folder.rglob("*.py")
            if folder / "config" not in path.parents
        )
        words = set(re.findall(r"\w+", code))
        words.update(f"acl_smtp_{phase.value}" for phase in AclPhase)
        unused = [
            name
            for options in (ReceptionOptions, MessageOptions)
            for name, option in options.options().items()
            if not option.no_effect and name not in words
        ]
        self.assertEqual(unused, [])
