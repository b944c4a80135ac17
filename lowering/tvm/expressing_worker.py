"""The process in which TVM expresses ops: `python -m irc.lowering.tvm.expressing_worker`.

It reads questions, a line of JSON each, about `model`, an ONNX model of one op in base64. With `chosen`, numbers of proposals
by the names of functions, it says what computes it as `expressed`, or as a `reason` why nothing does. With `seconds` and LLVM's
names of this machine it searches, and says what it chose as `chosen`. It ends at the end of its input, so with its parent.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time

from irc.runtime import Fields

from .expressing import by_default, express
from .searching import Machine, by_proposals, search
from .serving import answer_lines


def main() -> int:
    """Answer line by line; the exit code is 0 also where TVM expresses nothing."""
    return answer_lines("the op", answer)


def answer(fields: Fields) -> dict[str, str]:
    """What is said to a question; what is more than a clause is JSON within the line."""
    model, seconds = base64.b64decode(fields.text("model")), fields.optional_text("seconds")
    try:
        if seconds is not None:
            names = json.loads(fields.text("machine"))
            machine = Machine(names["triple"], names["processor"], tuple(names["features"]), os.cpu_count() or 1)
            return {"chosen": json.dumps(search(model, machine, time.monotonic() + float(seconds)))}
        chosen = json.loads(fields.text("chosen"))
        return {"expressed": json.dumps(express(model, by_proposals(chosen) if chosen else by_default))}
    except (ValueError, ImportError) as error:
        return {"reason": str(error)}


if __name__ == "__main__":
    sys.exit(main())
