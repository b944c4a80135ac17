"""`python -m irc.tools.cli` is `irc`."""

import sys

from . import main

sys.exit(main())
