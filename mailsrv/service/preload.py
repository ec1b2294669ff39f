"""Imports everything that may be needed later, before root is dropped.

Drivers and libraries are imported when they are first used, so that the
commands answer at once.  A server that was installed where its account cannot
read (a checkout below /root) could not do that after dropping root.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

# dnspython and the codecs choose modules by name at run time
LIBRARIES = ("dns", "dns.rdtypes.ANY", "dns.rdtypes.IN", "argon2", "OpenSSL", "service_identity")
CODECS = ("encodings.idna", "encodings.punycode", "encodings.latin_1", "encodings.ascii")
# what has no business in a server
EXCEPT = (
    "mailsrv.__main__",
    "mailsrv.commands",
    "mailsrv.tap",
    "dns.quic",
    "dns.trio",
    "dns._trio",
    "dns._asyncio",
)


def preload() -> None:
    """Import mailsrv's stages and the libraries that they use lazily, as far as they are there."""
    for name in (*_modules("mailsrv"), *(n for top in LIBRARIES for n in _modules(top)), *CODECS):
        if name.startswith(EXCEPT):
            continue
        try:
            importlib.import_module(name)
        except ImportError:  # an optional part of a library, without what it needs
            continue


def _modules(package: str) -> Iterator[str]:
    """Give a package and, where it has some, its modules."""
    yield package
    try:
        path = getattr(importlib.import_module(package), "__path__", None)
    except ImportError:
        return
    if path is None:
        return
    for module in pkgutil.iter_modules(path, package + "."):
        if module.name.startswith("mailsrv.") and module.ispkg:
            yield from _modules(module.name)
        else:
            yield module.name
