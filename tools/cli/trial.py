"""One op compiled and run on one engine, in a process of its own: `python -m irc.tools.cli.trial ENGINE TARGET`.

It prints one line of JSON: `failure`, which is null where the engine works.
"""

from __future__ import annotations

import json
import sys


def main(arguments: list[str]) -> int:
    """Try the engine; the exit code is 0 also where it fails in an orderly way."""
    engine, target = arguments
    print(json.dumps({"failure": why_it_fails(engine, target)}))
    return 0


def why_it_fails(engine: str, target: str) -> str | None:
    """Compile and run a Relu; why that does not work, or None."""
    import numpy as np

    from irc.ir import DType, Graph, IrcError, TensorType, at, make
    from irc.lowering import CompileOptions, Verify, compile_graph
    from irc.runtime import RunError

    graph = Graph("trial")
    x = graph.add_input("x", TensorType(DType.F32, (2,)))
    graph.add_output(graph.append(make("Relu", (x,), at("trial"))).result, "y")
    options = CompileOptions(target, engine=engine, verify=Verify.NOTHING)  # the reference is not what is tried
    try:
        outputs = compile_graph(graph, options).program.run({"x": np.array([-1, 1], np.float32)})
    except (IrcError, RunError, ImportError) as error:
        return str(error)
    values = outputs["y"].tolist()
    return None if values == [0.0, 1.0] else f"Relu of -1 and 1 is {values[0]:g} and {values[1]:g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
