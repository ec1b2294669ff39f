"""``condition``: true or false by an expansion."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mailsrv.acl.item import Item
from mailsrv.acl.model import Undecided

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation

_NUMBER = re.compile(r"-?[0-9]+")


def truth(text: str) -> bool | None:
    """Return what an expanded argument means; None if it is neither true nor false."""
    if _NUMBER.fullmatch(text):
        return text.strip("-0") != ""
    word = text.lower()
    if word in ("yes", "true"):
        return True
    return False if word in ("", "no", "false") else None


class Condition(Item):
    """True for yes, true and a number that is not zero; false for no, false, zero and nothing."""

    name = "condition"

    async def test(self, run: Evaluation) -> bool:
        """Tell whether the condition is met."""
        text = await run.expanded(self.argument)
        met = truth(text)
        if met is None:
            raise Undecided(log=f'invalid "condition" value "{text}"')
        return met
