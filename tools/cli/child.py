"""`--untrusted`: the same command in a child process with limits, whose death is a sentence and not ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from .output import INTERRUPTED, complain

ADDRESS_SPACE = 16 << 30
CPU_SECONDS = 600
WALL_SECONDS = 900


def run_in_child(arguments: Sequence[str]) -> int:
    """Run `irc` with these arguments in a child; its exit code, or 3 when the model brought it down.

    Raises UnsupportedError where the system cannot limit a process.
    """
    if sys.platform == "win32":
        from irc.ir import UnsupportedError

        raise UnsupportedError("--untrusted needs a system that limits processes", hint="use Linux or macOS")
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    command = [sys.executable, "-m", "irc.tools.cli", *arguments]
    child = subprocess.Popen(command, preexec_fn=limit, env={**os.environ, "IRC_CHILD": "1"})
    try:
        code = child.wait(WALL_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        complain(f"the model took more than {WALL_SECONDS} s", "an untrusted model may not take longer")
        return 3
    except KeyboardInterrupt:
        child.send_signal(signal.SIGINT)
        child.wait()  # the terminal has told it, too, and one that is told twice may die of it in place of ending by itself
        return INTERRUPTED
    if code >= 0:
        return code
    complain(_death(signal.Signals(-code)), "it is malformed, hostile, or too large for --untrusted")
    return 3


def _death(how: signal.Signals) -> str:
    if how == signal.SIGXCPU:
        return f"the model took more than {CPU_SECONDS} s of processor time"
    return f"the model brought the process that read it down ({how.name})"
