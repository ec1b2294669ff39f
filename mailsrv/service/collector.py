"""What the garbage collector does in a server that stays.

What the start has made (modules, the configuration, tens of thousands of
objects) lives as long as the process: the collector need not walk over it again
and again.  A message makes some thousand objects, nearly all of which end with
their last reference; so the collector looks for cycles less often.
"""

from __future__ import annotations

import gc

YOUNG = 20_000  # objects made, less those that ended, between two looks at the youngest


def keep() -> None:
    """Leave what there is now out of all later collections; call it again when that changes."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)
