"""When a value may be the name of a file (design, decision 3)."""

from __future__ import annotations

from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.tree import Composed
from mailsrv.mail.taint import Tainted


def as_path(name: str, what: str) -> str:
    """Return ``name`` without its mark, if it may name a file.

    It may if it is the configuration's own, or if each value of a peer in it
    is one harmless component.  ``what`` says in the message what it is for.

    :raises ExpansionError: names the mend.
    """
    if isinstance(name, Tainted) and not isinstance(name, Composed):
        raise ExpansionError(
            f"tainted file name for {what} is not permitted: '{name}' "
            "(use $local_part_data or $domain_data, or a dsearch lookup)"
        )
    if "\0" in name:
        raise ExpansionError(f"file name for {what} contains a NUL")
    return str(name)
