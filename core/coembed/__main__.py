"""`python -m coembed`: the command without its console script, as launchers of several processes want it."""

import sys

from coembed.cli import main

if __name__ == "__main__":
    sys.exit(main())
