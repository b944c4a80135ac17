"""The process that builds kernels: `python -m irc.lowering.tvm.building_worker FOLDER TRIPLE PROCESSOR [FEATURE …]`.

It reads a kernel a line, as JSON with `name` and `text`, writes its object to the folder and says the name of that `file`, or
a `failure`. It ends at the end of its input, so with its parent.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from irc.runtime import Fields

from .adapter import object_file
from .serving import make_files


def main(arguments: Sequence[str]) -> int:
    """Build what the lines ask for; the exit code is 0 also where a failure was reported."""
    folder, triple, processor, *features = arguments

    def built(name: str, fields: Fields) -> bytes:
        try:
            return object_file([fields.text("text")], triple, processor, features)
        except (ValueError, ImportError, OSError) as error:
            raise ValueError(f"kernel {name} cannot be built: {error}") from error

    return make_files(folder, "the kernel", built)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
