"""A module run in a process of its own, for what may crash, hang, or must not disturb this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping

from .errors import EngineFailure


def run_child(module: str, *arguments: str, timeout: float, environment: Mapping[str, str] | None = None) -> bytes:
    """What `python -m module arguments` prints to stdout, with `environment` added to ours.

    Raises EngineFailure where it takes longer than `timeout` seconds, is killed, or ends with another exit code than 0.
    """
    paths = os.pathsep.join(each for each in sys.path if each)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": paths, **(environment or {})},
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EngineFailure(f"it did not end within {timeout:g} s") from None
    if done.returncode == 0:
        return done.stdout
    said = done.stderr[-10_000:].decode("utf-8", "replace").strip().splitlines()
    last = f": {said[-1].strip()[:300]}" if said else ""
    raise EngineFailure(f"its process {_end(done.returncode)}{last}")


def _end(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    names = {each.value: each.name for each in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}"
