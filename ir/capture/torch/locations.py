"""Where in the user's program an op was written: the source line, the path of the module, and the fx node.

The line is the innermost one outside of torch and of irc; a file is shown as it is imported, below site-packages or the
folder Python looks in, so that a location says the same on every machine.
"""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

import os
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ...location import SourceOrigin

_SEARCHED = 64

PREFIX = "module."
"""In front of every path and weight: the place of the user's module in the wrapper that is exported."""

_FRAME = re.compile(r'^ *File "(?P<file>.+)", line (?P<line>\d+), in ', re.MULTILINE)
_HERE = str(Path(__file__).resolve().parent) + os.sep
_LIBRARIES = (str(Path(torch.__file__).resolve().parent) + os.sep, _HERE)


def origin_of(node: torch.fx.Node) -> SourceOrigin:
    """Where an fx node comes from; one that torch put in itself, such as the reading of a size, from what it is for."""
    written = _written_by_user(node)
    trace = written.meta.get("stack_trace") or ""
    file, line = _user_frame(trace) or _innermost_frame(trace)
    return SourceOrigin(file, line, module_path(written), node.name)


def _written_by_user(node: torch.fx.Node) -> torch.fx.Node:
    pending, seen = [node], {node}
    for candidate in pending:
        if _user_frame(candidate.meta.get("stack_trace") or ""):
            return candidate
        near = [each for each in (*candidate.users, *candidate.all_input_nodes) if each not in seen]
        seen.update(near)
        if len(pending) < _SEARCHED:
            pending.extend(near)
    # No line of the user's: a module made of nothing but torch's.
    return next((each for each in pending if _innermost_frame(each.meta.get("stack_trace") or "")[1]), node)


def module_path(node: torch.fx.Node) -> str:
    """The path of the module an fx node belongs to; "" for the outermost."""
    stack: dict[str, Any] = node.meta.get("nn_module_stack") or {}
    paths = [entry[0] for entry in stack.values() if isinstance(entry, tuple) and not entry[0].startswith("_empty_nn_module")]
    innermost = paths[-1] if paths else ""
    # A module called twice is `encoder` and then `encoder@1`.
    innermost = re.sub(r"@\d+", "", innermost).removeprefix("L['self'].")
    return "" if innermost in ("module", "L['self']") else innermost.removeprefix(PREFIX)


def is_library(file: str) -> bool:
    """Whether a file belongs to torch or to this package."""
    # torch names some of its own files from its root, and code it generated as no file at all.
    return (
        _resolved(file).startswith(_LIBRARIES) or file.startswith("torch/") or "<eval_with_key>" in file or file == "<string>"
    )


@lru_cache(maxsize=4096)
def shown_path(file: str) -> str:
    """How a file is shown: below the longest folder that Python imports from or works in, else by its name."""
    if file.startswith("<"):
        return file
    path = _resolved(file)
    folders = {_resolved(entry or os.curdir) for entry in (*sys.path, os.curdir)}
    inside = [folder for folder in folders if path.startswith(folder.rstrip(os.sep) + os.sep) and folder != os.sep]
    if not inside:
        return Path(path).name
    return Path(path).relative_to(max(inside, key=len)).as_posix()


@lru_cache(maxsize=4096)
def _resolved(file: str) -> str:
    return file if file.startswith("<") else os.path.realpath(file)


def _user_frame(trace: str) -> tuple[str, int] | None:
    """File and line of the innermost frame of the user's code, or None where there is none."""
    for frame in reversed(list(_FRAME.finditer(trace))):
        if not is_library(frame["file"]):
            return shown_path(frame["file"]), int(frame["line"])
    return None


def _innermost_frame(trace: str) -> tuple[str, int]:
    """File and line of torch's own code, for a module made of nothing but torch's; "" and 0 where no line is known."""
    frames = [frame for frame in _FRAME.finditer(trace) if Path(frame["file"]).is_absolute() and "<" not in frame["file"]]
    frames = [frame for frame in frames if not _resolved(frame["file"]).startswith(_HERE)]
    return (shown_path(frames[-1]["file"]), int(frames[-1]["line"])) if frames else ("", 0)
