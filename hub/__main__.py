"""`python -m hub` is the command `hub`."""

from __future__ import annotations

import sys

from hub.app.cli import main

if __name__ == "__main__":
    sys.exit(main())
