"""What the processes have in common in which TVM works: they answer line by line, in JSON, until their input ends.

Law: nothing but answers stands between the lines, whatever native code prints; such a process ends with its parent.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from irc.runtime import Fields, parse_object


def answer_lines(subject: str, answer: Callable[[Fields], Mapping[str, str]]) -> int:
    """Answer each line, which is about `subject`; the exit code is 0 also where a failure was an answer."""
    # TVM imports torch where it finds it, which takes longer than all else, and needs nothing of it.
    sys.modules["torch"] = None  # type: ignore[assignment]  # how Python spells a module that is not there
    protocol = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what native code prints must not get between the lines
    for line in sys.stdin.buffer:
        protocol.write(json.dumps(answer(parse_object(line, subject))) + "\n")
        protocol.flush()
    return 0


def make_files(folder: str, subject: str, content: Callable[[str, Fields], bytes]) -> int:
    """For each line, write to the folder what `content` makes for its `name`, and answer with the `file`, or a `failure`.

    The failure is in the words of the ValueError, ImportError or OSError that `content` raises. The exit code is 0.
    """
    tempfile.tempdir = folder

    def answer(fields: Fields) -> Mapping[str, str]:
        name = fields.text("name")
        try:
            made = content(name, fields)
        except (ValueError, ImportError, OSError) as error:
            return {"failure": str(error)}
        file = f"{name}.made"
        Path(folder, file).write_bytes(made)
        return {"file": file}

    return answer_lines(subject, answer)
