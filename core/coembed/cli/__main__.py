"""`python -m coembed.cli`: the command without its console script."""

import sys

from coembed.cli import main

sys.exit(main())
