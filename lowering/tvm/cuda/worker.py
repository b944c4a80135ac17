"""The process that makes kernels for GPUs: `python -m irc.lowering.tvm.cuda.worker FOLDER ARCHITECTURE`.

It reads a task a line, as JSON with `name` and either a `model` in base64, of which it makes kernels, or a `source`, which it
compiles. What it makes is in a `file` in the folder, whose name it says, or a `failure`. It ends with its parent.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Sequence

from irc.runtime import Fields

from ..serving import make_files
from . import nvrtc
from .adapter import device_code


def main(arguments: Sequence[str]) -> int:
    """Do what the lines ask for; the exit code is 0 also where a failure was reported."""
    folder, architecture = arguments
    return make_files(folder, "the task", lambda name, fields: made_of(name, fields, architecture))


def made_of(name: str, fields: Fields, architecture: str) -> bytes:
    """The image of a source, or the code of a model; raises ValueError where there is none."""
    source = fields.optional_text("source")
    if source is not None:
        return nvrtc.image(source, architecture)
    model = base64.b64decode(fields.text("model"))
    # TVM asks for the architecture of machine code, also where PTX is made of what it writes.
    return device_code(model, architecture.replace("compute_", "sm_"), f"{name}_").to_bytes()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
