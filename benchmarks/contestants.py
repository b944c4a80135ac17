"""The graph optimizers that are measured, each as a function from a model's path to a written file.

Run as a worker: `python -m benchmarks.contestants TOOL MODEL OUT` does the work once, imports beforehand, and prints JSON:
seconds from path to written file, the process's peak memory in MiB, and the nodes of the result.
"""

# pyright: basic
from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path


def irc() -> Callable[[str, str], None]:
    """irc: capture, O2, emit."""
    import onnxruntime  # noqa: F401  # the reference of constant folding; importing it is no part of optimizing

    from irc.ir import collector_paused, save_onnx
    from irc.ir.capture import import_model, load_onnx
    from irc.passes import LEVELS, PassManager

    def optimize(model: str, out: str) -> None:
        with collector_paused():  # as the command line does
            source = load_onnx(model)
            graph = PassManager(LEVELS["O2"]).run(import_model(source), lambda: import_model(source))
            save_onnx(graph, out)

    return optimize


def onnxslim() -> Callable[[str, str], None]:
    """onnxslim at its defaults."""
    import onnxslim as tool

    return lambda model, out: tool.slim(model, out)


def onnxsim() -> Callable[[str, str], None]:
    """onnxsim without its own check."""
    import onnx
    import onnxsim as tool

    return lambda model, out: onnx.save(tool.simplify(onnx.load(model))[0], out)


def onnxscript() -> Callable[[str, str], None]:
    """onnxscript's optimizer and rewriter."""
    import onnx
    from onnxscript import optimizer, rewriter

    return lambda model, out: onnx.save(rewriter.rewrite(optimizer.optimize(onnx.load(model))), out)


def onnxruntime() -> Callable[[str, str], None]:
    """ONNX Runtime's offline optimization at the level whose result is portable (extended)."""
    import onnxruntime as ort

    def optimize(model: str, out: str) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = out
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    return optimize


CONTESTANTS: dict[str, Callable[[], Callable[[str, str], None]]] = {
    "irc": irc,
    "onnxslim": onnxslim,
    "onnxsim": onnxsim,
    "onnxscript": onnxscript,
    "onnxruntime": onnxruntime,
}


def peak_memory() -> float:
    """The largest resident size of this process so far, in MiB (ru_maxrss would start at that of the parent)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def main(tool: str, model: str, out: str) -> None:
    """Optimize once and report."""
    work = CONTESTANTS[tool]()
    before = peak_memory()
    start = time.perf_counter()
    work(model, out)
    seconds = time.perf_counter() - start
    peak = peak_memory()

    import onnx

    nodes = len(onnx.load(out, load_external_data=False).graph.node)
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "base_mib": before, "nodes": nodes}))


if __name__ == "__main__":
    main(*sys.argv[1:])
