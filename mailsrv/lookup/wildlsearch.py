"""``wildlsearch``: as nwildlsearch, with keys that are expanded (specification 9.3)."""

from __future__ import annotations

from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.template import compile_again
from mailsrv.lookup import nwildlsearch


class Lookup(nwildlsearch.Lookup):
    """``wildlsearch``: as nwildlsearch, but each key is expanded first.

    Nothing of a message is visible to it: the file belongs to the
    configuration, and escapes such as ``\\N`` are what it is used for.
    """

    def _pattern(self, key: str) -> str | None:
        template = compile_again(key)
        if template.constant is None:
            reason = template.error.reason if template.error else "variables are not visible here"
            raise ExpansionError(f'wildlsearch: failed to expand key "{key}": {reason}')
        return template.constant
