# pyright: basic
"""Orders of loops for what TVM expresses, found by MetaSchedule: it proposes, and kernels are measured as they will run.

Law: proposals are drawn in one order, whatever the machine, so the number of one says what it is. A search ends at its time,
whatever is found. It runs in a process of its own, since candidates may crash.

Source: Shao et al., "Tensor Program Optimization with Probabilistic Programs" (2022).
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import sys
import tempfile
import time
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import numpy as np

from .adapter import object_file, part, whole
from .expressing import Schedule, functions_of
from .kernel import Kernel
from .linking import link
from .nests import Function, nests_of, scheduled

MOST_PROPOSALS = 1024
"""Proposals after which a search ends before its time."""
MOST_REPEATED = 64
"""Proposals that were made before, or were none, after which there will be no others."""
AT_ONCE = 8
"""Proposals that MetaSchedule draws together."""
CORES = 4
"""Cores that it draws them for: a kernel's tasks are enough for more."""
GAIN = 0.95
"""The share of the default's time that a find must be under."""
_RUNS, _ENOUGH = 5, 0.2
"""Runs of a candidate, of which the fastest counts, and the seconds after which no further one is begun."""


@dataclass(frozen=True)
class Machine:
    """LLVM's names of this machine, and how many cores share the tasks of a kernel."""

    triple: str
    processor: str
    features: tuple[str, ...]
    cores: int


def search(model: bytes, machine: Machine, deadline: float) -> dict[str, int]:
    """The numbers of proposals by the names of the functions of a model for which one was found that beats the default.

    `deadline` is a time of `time.monotonic`.
    """
    functions = functions_of(model)
    found: dict[str, int] = {}
    for number, (name, function) in enumerate(functions.items()):
        share = (deadline - time.monotonic()) / (len(functions) - number)
        best = _searched(function, machine, time.monotonic() + share)
        if best is not None:
            found[name] = best
    return found


def by_proposals(chosen: Mapping[str, int]) -> Schedule:
    """The order of loops of numbered proposals by the names of functions, and the default for those that have none."""

    def schedule(name: str, function: Any) -> Any:
        if name not in chosen:
            return scheduled(function)
        found = next(islice(_proposals(function), chosen[name], None), None)
        if found is None:
            raise ValueError(f"there is no proposal {chosen[name]}")
        return found

    return schedule


def _searched(function: Any, machine: Machine, deadline: float) -> int | None:
    """The number of the fastest proposal; None where none beats the default."""
    best, found = _measured(nests_of(function, scheduled), machine) * GAIN, None
    seen: set[tuple[str, ...]] = set()
    for number, proposal in enumerate(_proposals(function)):
        if time.monotonic() > deadline or number > len(seen) + MOST_REPEATED:
            break
        with contextlib.suppress(ValueError):  # what cannot be a kernel of ours is no candidate
            made = nests_of(function, lambda _, proposal=proposal: proposal)
            texts = tuple(nest.source for nest in made.nests)
            seconds = math.inf if texts in seen else _measured(made, machine)
            seen.add(texts)
            if seconds < best:
                best, found = seconds, number
    return found


def _proposals(function: Any) -> Iterator[Any]:
    """What MetaSchedule makes of a function, drawn at random from its space, the same each time."""
    meta, tvm = _meta_schedule(), whole()
    context = meta.TuneContext(
        mod=tvm.IRModule({"main": function.with_attr("global_symbol", "main")}),
        target=tvm.target.Target({"kind": "llvm", "num-cores": CORES}),
        # The rules for any CPU: those for one with VNNI would have instructions of it in the place of loops.
        space_generator=meta.space_generator.PostOrderApply(
            sch_rules=meta.ScheduleRule.create("llvm"),
            postprocs=meta.Postproc.create("llvm"),
            mutator_probs=meta.Mutator.create("llvm"),
        ),
        search_strategy="replay-trace",
        task_name="main",
        num_threads=1,
        rand_state=1,
    )
    context.pre_tuning(MOST_PROPOSALS, AT_ONCE, context.generate_design_space())
    while candidates := context.generate_measure_candidates():
        for candidate in candidates:
            yield candidate.sch.mod["main"].without_attr("global_symbol")
        context.notify_runner_results(candidates, [meta.runner.RunnerResult([1.0], None)] * len(candidates))


@cache
def _meta_schedule() -> Any:
    """MetaSchedule, without the instructions of GPUs and others that it would bring: reading them takes half a minute."""
    for name in ("cuda", "rocm", "metal", "hexagon", "arm_cpu", "riscv_cpu", "x86"):
        sys.modules.setdefault(f"tvm.s_tir.tensor_intrin.{name}", types.ModuleType(name))
    return part("s_tir.meta_schedule")


def _measured(function: Function, machine: Machine) -> float:
    """Seconds that the kernels of a function take on the target's cores: a task after the other, as if they shared them."""
    kernels = [Kernel(nest.source, nest.tasks, len(nest.buffers)) for nest in function.nests]
    texts = list({kernel.name: kernel.text for kernel in kernels}.values())
    library = link([object_file([text], machine.triple, machine.processor, machine.features) for text in texts], machine.triple)
    memory = {number: _memory(each) for number, each in enumerate(function.parameters)}
    memory |= {-1 - number: _memory(each) for number, each in enumerate(function.own)}
    calls = [
        (kernel, [ctypes.c_void_p(memory[number].ctypes.data) for number in nest.buffers])
        for kernel, nest in zip(kernels, function.nests, strict=True)
    ]
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        file.write(library)
        file.flush()
        loaded = ctypes.CDLL(file.name)
    best, began = math.inf, time.monotonic()
    for turn in range(_RUNS + 1):
        if turn > 1 and time.monotonic() - began > _ENOUGH:
            break
        seconds = sum(_seconds(loaded[kernel.name], kernel.tasks, pointers, machine.cores) for kernel, pointers in calls)
        best = min(best, seconds) if turn else best  # the first finds no page of its memory there
    return best


def _seconds(function: Any, tasks: int, pointers: list[ctypes.c_void_p], cores: int) -> float:
    began = time.perf_counter()
    for task in range(tasks):
        function(ctypes.c_int32(task), *pointers)
    return (time.perf_counter() - began) * math.ceil(tasks / cores) / tasks


def _memory(memory: Any) -> np.ndarray:
    """Some numbers, of which none is 0 and none overflows."""
    kind = "int8" if memory.kind == "bool" else memory.kind
    return np.ones(max(memory.size, 1), kind)
