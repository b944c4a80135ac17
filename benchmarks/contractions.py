"""Contraction kernels in f32, bf16 and 8 bits against the machine's limits, on the shapes of bert_base and resnet50.

    python -m benchmarks.contractions [--threads 2] [--runs 50]

A kernel runs through the thread pool of compiled programs. The limit in f32 is the largest that any kernel of this run or the
BLAS of NumPy reached (`irc targets --measure`); a lane that sums two bf16 or four 8-bit products does so in the same time, so
their limits are twice and four times that.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from rich.console import Console
from rich.table import Table

from irc.lowering import find_target
from irc.lowering.tvm.arithmetic import ARITHMETICS, INT8, Arithmetic
from irc.lowering.tvm.axes import in_lanes
from irc.lowering.tvm.building import llvm_target, objects
from irc.lowering.tvm.contraction import contraction, tiling_of
from irc.lowering.tvm.linking import link
from irc.lowering.tvm.panels import packed
from irc.lowering.tvm.products import matmul
from irc.lowering.tvm.program import machine_of
from irc.lowering.tvm.views import View
from irc.runtime import (
    CONSTANTS_FILE,
    LIBRARY_FILE,
    NATIVE_PLAN_FILE,
    Argument,
    EngineFiles,
    NativeExecutor,
    NativeOptions,
    NativePlan,
    NativeStep,
    NativeValue,
    SignatureEntry,
    measured_limits,
)

SHAPES = {
    "bert_base projection": (128, 768, 768),
    "bert_base up": (128, 768, 3072),
    "bert_base down": (128, 3072, 768),
    "resnet50 56x56 3x3": (3136, 576, 64),
    "resnet50 28x28 3x3": (784, 1152, 128),
    "resnet50 14x14 3x3": (196, 2304, 256),
    "resnet50 7x7 3x3": (49, 4608, 512),
    "resnet50 14x14 1x1": (196, 1024, 256),
}
"""Rows, products in a sum, and columns; a convolution as the product it is once its windows are rows."""


def measured(arithmetic: Arithmetic, rows: int, depth: int, columns: int, threads: int, runs: int) -> float:
    """10^9 operations in a second, by the fastest of so many runs."""
    target = find_target("cpu")
    view = View.dense((rows, columns))
    made = matmul(View.dense((rows, depth)), rows * depth, View.dense((depth, columns)), view, view.size)
    assert made is not None
    wanted = in_lanes(made.contraction, arithmetic)
    assert wanted is not None
    tiling = tiling_of(wanted, machine_of(target))
    kernel = contraction(wanted, tiling)
    rng = np.random.default_rng(0)
    a, b = (
        rng.integers(0, 100, shape).astype(kind.numpy)
        for shape, kind in (((rows, depth), arithmetic.a), ((depth, columns), arithmetic.b))
    )
    weights = packed(b[None], tiling, arithmetic).view(np.uint8).reshape(-1)
    c_bytes = 4 * rows * columns
    arguments = (Argument(3, 0, a.nbytes), Argument(1, 0, weights.size), Argument(4, 0, c_bytes))
    plan = NativePlan(
        (NativeStep(kernel.name, kernel.tasks, arguments),),
        0,
        weights.size,
        (NativeValue("a", arithmetic.a.text, (rows, depth)),),
        (NativeValue("c", arithmetic.sums.text, (rows, columns)),),
        target.architecture,
        target.features,
    )
    library = link(list(objects([kernel], target, 1).values()), llvm_target(target).triple)
    files = EngineFiles({LIBRARY_FILE: (library,), NATIVE_PLAN_FILE: (plan.to_bytes(),), CONSTANTS_FILE: (weights.data,)}, {})
    entries = [SignatureEntry(each.name, each.dtype, each.shape) for each in (*plan.inputs, *plan.outputs)]
    executor = NativeExecutor(files, NativeOptions(threads), entries[:1], entries[1:])
    best = min(executor.run_timed({"a": a})[1][0] for _ in range(runs))
    executor.close()
    return 2.0 * rows * depth * columns / best


def main() -> None:
    """Measure every shape in every arithmetic that this machine has, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contractions", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=50)
    given = parser.parse_args()
    here = [each for each in ARITHMETICS if set(each.features) <= set(find_target("cpu").features)]
    found = {
        (name, each.name): measured(each, *shape, given.threads, given.runs) for each in here for name, shape in SHAPES.items()
    }
    limits = measured_limits().limits
    known = limits.gflops if limits is not None and limits.gflops is not None else 0.0
    peak = max(
        known, *(found[name, "f32"] for name in SHAPES), *(found[name, e.name] / e.together for name in SHAPES for e in here)
    )
    table = Table(box=None)
    table.add_column("shape")
    for each in here:
        table.add_column(f"{each.name} G/s", justify="right")
        table.add_column("of its limit", justify="right")
    for name in SHAPES:
        cells = [(found[name, each.name], found[name, each.name] / (peak * each.together)) for each in here]
        table.add_row(name, *(text for rate, share in cells for text in (f"{rate:.0f}", f"{share:.0%}")))
    Console(width=160).print(table)
    print(f"{given.threads} threads; limit in f32 {peak:.0f} GFLOP/s")
    if INT8 not in here:
        print("this machine has no 8-bit products", file=sys.stderr)


if __name__ == "__main__":
    main()
