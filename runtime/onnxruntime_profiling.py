"""Times of ONNX Runtime's kernels: a session records every call, and the graph it made of the model tells what each stands for.

Recording costs a few microseconds a kernel, and a kernel's time is a whole number of them, rounded down; a run of a small
model therefore shows more time between its kernels than it spends there otherwise. No kernel is counted twice: what the
kernels in a body take is not part of the op that has the body.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import EngineFailure
from .executor import MODEL_FILE
from .machine import physical_cores
from .onnxruntime_executor import OnnxRuntimeExecutor, OnnxRuntimeOptions
from .profiling import WARM_UP, Call, Kernel, Profile, Subject, middle_mean
from .provenance import Provenance, read_sources, read_steps, trace_back

MOST_CALLS = 100_000
"""About how many calls are recorded: each takes a kilobyte, and ONNX Runtime drops what is beyond a million."""
_SUFFIX = "_kernel_time"


def profile_onnxruntime(
    subject: Subject, feeds: dict[str, object], runs: int, threads: int | None
) -> tuple[Profile, list[object]]:
    """The profile of a model, as `profiling.profile` has it, and its results.

    Fewer runs are made where there would be more than MOST_CALLS. The weights are written to the temporary folder once,
    beside the graph that the engine makes of the model.
    """
    options = OnnxRuntimeOptions.from_manifest(subject.options)
    if threads is not None:
        options = replace(options, threads=threads)
    files = subject.files
    model = files.read(MODEL_FILE)
    results: list[object] = []
    with tempfile.TemporaryDirectory(prefix="irc-profile-") as name:
        folder = Path(name)
        executor = OnnxRuntimeExecutor(model, files.weights, options, subject.inputs, subject.outputs, recording=folder)
        sources, nodes = _sources(model, (folder / OnnxRuntimeExecutor.RECORDED_GRAPH).read_bytes())
        for _ in range(WARM_UP + max(1, min(runs, MOST_CALLS // max(nodes, 1)))):
            results = executor.run(feeds)
        events: list[dict[str, Any]] = json.loads(executor.end_recording().read_bytes())
    recorded = _runs(events)[WARM_UP:]
    if not recorded:
        hint = "a run of more than a million kernels is too long for it"
        raise EngineFailure("ONNX Runtime recorded no whole run", hint=hint)
    return _profile(recorded, sources, subject.engine, options.threads or physical_cores()), results


def _sources(model: bytes, engines_own: bytes) -> tuple[dict[str, tuple[Provenance, ...]], int]:
    """What each node of the engine's graph stands for, by its name, and the number of nodes.

    Nameless nodes of an op stand for something where all of them stand for the same.
    """
    import onnx  # for profiles only: running an artifact does without

    given, made = (onnx.load_model_from_string(each).graph for each in (model, engines_own))
    sources, steps = read_sources(given), read_steps(made)
    found: dict[str, tuple[Provenance, ...]] = {}
    nameless: dict[str, set[tuple[Provenance, ...]]] = defaultdict(set)
    for node, traced in zip(steps.nodes, trace_back(read_steps(given), steps), strict=True):
        known = tuple(sources[step.name] for step in traced if step.name in sources)
        if node.name:
            found[node.name] = known
        else:
            nameless[node.op].add(known)
    agreed = {_nameless(op): next(iter(every)) for op, every in nameless.items() if len(every) == 1}
    return found | agreed, len(steps.nodes)


def _nameless(op: str) -> str:
    return f"\0{op}"  # no node is called so


@dataclass(frozen=True, slots=True)
class _Event:
    """A call of a kernel as recorded, in µs; `own` leaves out the calls inside."""

    key: tuple[str, str, str]
    start: int
    duration: int
    own: int
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Run:
    start: int
    duration: int
    events: Sequence[_Event]

    def times(self) -> dict[tuple[str, str, str], int]:
        totals: dict[tuple[str, str, str], int] = defaultdict(int)
        for event in self.events:
            totals[event.key] += event.own
        return totals


def _runs(events: Sequence[dict[str, Any]]) -> list[_Run]:
    """The runs among recorded events, each with the calls of its kernels in order."""
    whole = sorted((e for e in events if e["name"] == "model_run"), key=lambda e: e["ts"])
    kernels = sorted(
        (e for e in events if e["cat"] == "Node" and e["name"].endswith(_SUFFIX)), key=lambda e: (e["ts"], -e["dur"])
    )
    runs: list[_Run] = []
    position = 0
    for run in whole:
        while position < len(kernels) and kernels[position]["ts"] < run["ts"]:
            position += 1
        begin, end = position, run["ts"] + run["dur"]
        while position < len(kernels) and kernels[position]["ts"] < end:
            position += 1
        runs.append(_Run(run["ts"], run["dur"], tuple(_events(kernels[begin:position]))))
    return runs


def _events(recorded: Sequence[dict[str, Any]]) -> Iterator[_Event]:
    """The events of one run with the time of those inside taken off; an event is inside one that ends later."""
    inside = [0] * len(recorded)
    open_events: list[int] = []
    for index, event in enumerate(recorded):
        while open_events and event["ts"] >= recorded[open_events[-1]]["ts"] + recorded[open_events[-1]]["dur"]:
            open_events.pop()
        if open_events:
            inside[open_events[-1]] += event["dur"]
        open_events.append(index)
    for event, others in zip(recorded, inside, strict=True):
        arguments = event["args"]
        key = (event["name"].removesuffix(_SUFFIX), str(arguments.get("op_name", "")), str(arguments.get("node_index", "")))
        yield _Event(key, event["ts"], event["dur"], max(0, event["dur"] - others), arguments)


def _profile(runs: Sequence[_Run], sources: Mapping[str, tuple[Provenance, ...]], engine: str, threads: int) -> Profile:
    times = [run.times() for run in runs]
    counts: dict[tuple[str, str, str], int] = defaultdict(int)
    first: dict[tuple[str, str, str], _Event] = {}
    for run in runs:
        for event in run.events:
            counts[event.key] += 1
            first.setdefault(event.key, event)
    kernels = {
        key: Kernel(
            key[0],
            key[1],
            middle_mean([each.get(key, 0) for each in times]) / 1e3,
            counts[key] / len(runs),
            sources.get(key[0]) or (sources.get(_nameless(key[1]), ()) if key[0] == f"{key[1]}_{key[2]}" else ()),
            _shapes(event.arguments.get("input_type_shape")),
            _shapes(event.arguments.get("output_type_shape")),
        )
        for key, event in first.items()
    }
    last = runs[-1]
    calls = tuple(Call(kernels[each.key], each.start - last.start, each.duration) for each in last.events)
    run_ms = middle_mean([run.duration for run in runs]) / 1e3
    return Profile(engine, threads, len(runs), run_ms, tuple(kernels.values()), calls)


def _shapes(recorded: Any) -> tuple[str, ...]:
    """Types and shapes as ONNX Runtime records them, such as `[{"float": [1, 3]}]`."""
    return tuple(f"{dtype}[{','.join(map(str, shape))}]" for entry in recorded or () for dtype, shape in entry.items())
