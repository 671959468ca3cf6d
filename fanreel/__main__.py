"""`python -m fanreel`: the command `fanreel`."""

from __future__ import annotations

import sys

from fanreel.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
