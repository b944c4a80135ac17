"""The command `irc`: one module a verb; this one puts them together and turns errors into sentences and exit codes.

Exit codes: 0 good, 1 a check failed, 2 usage, 3 bad model, 4 not supported, 5 engine failed.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper

from .app import run


def main() -> int:
    """Run the command line; the exit code."""
    stdout: object = sys.stdout
    if isinstance(stdout, TextIOWrapper):
        stdout.reconfigure(errors="replace")  # a terminal without dashes is no reason to fail
    return run(sys.argv[1:])


__all__ = ["main"]
