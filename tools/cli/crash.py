"""What is left behind when irc itself fails: a folder with the command, the versions, the traceback and how to run it again."""

from __future__ import annotations

import json
import platform
import shlex
import tempfile
import traceback
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

_PACKAGES = ("irc-compiler", "onnx", "onnxruntime", "numpy")


def leave_reproducer(error: Exception, arguments: Sequence[str]) -> Path | None:
    """Write a reproducer and return its folder, or None where none can be written.

    It names the model by path and copies none of the user's data.
    """
    try:
        return _write(error, arguments)
    except OSError:
        return None


def _write(error: Exception, arguments: Sequence[str]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="irc-crash-"))
    command = shlex.join(["irc", *arguments, "--debug"])
    script = f"#!/bin/sh\ncd {shlex.quote(str(Path.cwd()))}\n{command}\n"
    (folder / "reproduce.sh").write_text(script, encoding="utf-8", errors="surrogateescape")
    trace = "".join(traceback.format_exception(error))
    (folder / "traceback.txt").write_text(trace, encoding="utf-8", errors="backslashreplace")
    details = {
        "command": command,
        "python": platform.python_version(),
        "machine": platform.platform(),
        "packages": _versions(),
    }
    (folder / "details.json").write_text(json.dumps(details, indent=1) + "\n")
    return folder


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
