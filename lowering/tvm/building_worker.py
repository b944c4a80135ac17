"""The process that builds kernels: `python -m irc.lowering.tvm.building_worker FOLDER TRIPLE PROCESSOR [FEATURE …]`.

It reads a kernel a line, as JSON with `name` and `text`, writes its object to the folder and says the name of that `file`, or
a `failure`. It ends at the end of its input, so with its parent.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from irc.runtime import parse_object

from .adapter import object_file


def main(arguments: Sequence[str]) -> int:
    """Build what the lines ask for; the exit code is 0 also where a failure was reported."""
    folder, triple, processor, *features = arguments
    tempfile.tempdir = folder
    # TVM imports torch where it finds it, which takes longer than all else, and needs nothing of it to build.
    sys.modules["torch"] = None  # type: ignore[assignment]  # how Python spells a module that is not there
    protocol = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what native code prints must not get between the lines
    for line in sys.stdin.buffer:
        fields = parse_object(line, "the kernel")
        name = fields.text("name")
        try:
            content = object_file([fields.text("text")], triple, processor, features)
        except (ValueError, ImportError, OSError) as error:
            answer = {"failure": f"kernel {name} cannot be built: {error}"}
        else:
            Path(folder, f"{name}.o").write_bytes(content)
            answer = {"file": f"{name}.o"}
        protocol.write(json.dumps(answer) + "\n")
        protocol.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
