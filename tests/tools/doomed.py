"""`irc` in a process to which something happens: `doomed.py PLAN ARGUMENT…`, where PLAN is JSON.

`kill_at`: it is killed right before its so manieth change of a file or start of a process. `refuse` and `errno`: the system
refuses every change of a path in which that pattern is found. `interrupt`: so does Ctrl-C come at the opening of such a
file. How many changes there were is the last line on stderr.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from typing import Any

CHANGES = frozenset({"os.rename", "os.mkdir", "os.remove", "os.rmdir", "subprocess.Popen"})
WRITING = os.O_WRONLY | os.O_RDWR


class Fate:
    """What the plan says, carried out as an audit hook."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.changes = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CHANGES and not (event == "open" and arguments[2] & WRITING):
            return
        self.changes += 1
        if self.plan.get("kill_at") == self.changes:
            os.kill(os.getpid(), signal.SIGKILL)
        refuse, interrupt = self.plan.get("refuse"), self.plan.get("interrupt")
        if refuse and any(re.search(refuse, str(each)) for each in arguments[:2]):
            raise OSError(self.plan["errno"], os.strerror(self.plan["errno"]))
        if interrupt and event == "open" and re.search(interrupt, str(arguments[0])):
            os.kill(os.getpid(), signal.SIGINT)


def main() -> int:
    """Run `irc` with the plan."""
    from irc.tools.cli.app import run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    fate = Fate(json.loads(sys.argv[1]))
    sys.addaudithook(fate)
    code = run(sys.argv[2:])
    print(fate.changes, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
