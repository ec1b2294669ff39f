"""Built-in macros (chapter 6.9): what this mailsrv has, for ``.ifdef _HAVE_…`` and the like.

They cost the import of what they tell of, so they are found only when a
configuration has a name of that form.
"""

from __future__ import annotations

import re
from functools import cache

from mailsrv.config.known import LOG_SELECTORS
from mailsrv.config.main import MainOptions
from mailsrv.config.options import OptionSet
from mailsrv.config.registry import PACKAGES, built_in, driver_class, module_names
from mailsrv.errors import Position

_HAVE = "CRYPTEQ I18N IPV6 LOOKUP_DBM LOOKUP_LSEARCH OPENSSL TLS TLS1_3 TRANSPORT_APPEND_MAILDIR"
_ACL_MODIFIERS = "add_header control delay endpass log_message logwrite message remove_header set"


@cache
def builtin_pattern() -> re.Pattern[str]:
    """Return a pattern of all built-in macros, the longest first; each stands for ``y``."""
    return re.compile("|".join(sorted(map(re.escape, builtin_macros()), key=len, reverse=True)))


@cache
def builtin_macros() -> frozenset[str]:
    """The names of all built-in macros that are defined."""
    names = {f"_HAVE_{name}" for name in _HAVE.split()}
    names |= {f"_LOG_{name}" for name in LOG_SELECTORS}
    names |= {f"_ACL_COND_{name}" for name in module_names("mailsrv.acl.conditions")}
    names |= {f"_ACL_MOD_{name}" for name in _ACL_MODIFIERS.split()}
    names |= {f"_OPT_MAIN_{name}" for name in _effective(MainOptions)}
    for kind in PACKAGES:
        for driver in built_in(kind):
            names.add(f"_DRIVER_{kind}_{driver}")
            options = driver_class(kind, driver, Position("", 0))
            own = set(vars(options))
            for name in _effective(options):
                private = f"{kind}_{driver}" if name in own else f"{kind}s"
                names.add(f"_OPT_{private}_{name}")
    return frozenset(name.upper() for name in names)


def _effective(options: type[OptionSet]) -> list[str]:
    return [name for name, option in options.options().items() if not option.no_effect]
