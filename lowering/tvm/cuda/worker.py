"""The process that makes kernels for GPUs: `python -m irc.lowering.tvm.cuda.worker FOLDER ARCHITECTURE`.

It reads a task a line, as JSON with `name` and the `file` in the folder that it is about: a model, of which it makes kernels,
or a source, which it compiles. What it makes is in a file too, whose name it says, or a `failure`. It ends with its parent.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from irc.runtime import parse_object

from . import nvrtc
from .adapter import device_code

SOURCE = ".cu"
"""How the name of a file ends that is a source."""


def main(arguments: Sequence[str]) -> int:
    """Do what the lines ask for; the exit code is 0 also where a failure was reported."""
    folder, architecture = arguments
    tempfile.tempdir = folder
    # TVM imports torch where it finds it, which takes longer than all else, and needs nothing of it to build.
    sys.modules["torch"] = None  # type: ignore[assignment]  # how Python spells a module that is not there
    protocol = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what native code prints must not get between the lines
    for line in sys.stdin.buffer:
        fields = parse_object(line, "the task")
        name, file = fields.text("name"), fields.text("file")
        content = Path(folder, file).read_bytes()
        try:
            made = made_of(content, name, architecture, file.endswith(SOURCE))
        except (ValueError, ImportError, OSError) as error:
            answer = {"failure": str(error)}
        else:
            Path(folder, f"{name}.made").write_bytes(made)
            answer = {"file": f"{name}.made"}
        protocol.write(json.dumps(answer) + "\n")
        protocol.flush()
    return 0


def made_of(content: bytes, name: str, architecture: str, is_source: bool) -> bytes:
    """The image of a source, or the code of a model; raises ValueError where there is none."""
    if is_source:
        return nvrtc.image(content.decode(), architecture)
    # TVM asks for the architecture of machine code, also where PTX is made of what it writes.
    return device_code(content, architecture.replace("compute_", "sm_"), f"{name}_").to_bytes()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
