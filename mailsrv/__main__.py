"""``python -m mailsrv``: the command ``mailsrv``."""

import sys

from mailsrv.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
