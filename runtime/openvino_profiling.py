# pyright: basic
"""Times of OpenVINO's kernels, which sums them up by itself, traced back through its graphs to the ops that were lowered.

The way back has two parts: a node that runs knows the nodes of `model.xml` that were fused into it, and these have the names
of the ONNX nodes they were read from, or make the same tensors. Times are whole microseconds, rounded down.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from .executor import EngineFiles
from .machine import physical_cores
from .openvino_executor import BIN_FILE, OPS_FILE, XML_FILE, OpenVinoExecutor, OpenVinoOptions, read_model
from .profiling import WARM_UP, Call, Kernel, Profile, Subject, middle_mean
from .provenance import Provenance, Step, Steps, read_sources, read_steps, spread, trace_back
from .zip_store import Buffer

_NO_WORK = ("Constant", "Parameter", "Result")
_RECORD = {"PERF_COUNT": "YES"}


def profile_openvino(
    subject: Subject, feeds: dict[str, object], runs: int, threads: int | None
) -> tuple[Profile, list[object]]:
    """The profile of a model, as `profiling.profile` has it, and its results.

    Where several calls are worked on at a time, it is that of one call on its share of the threads.
    """
    options = OpenVinoOptions.from_manifest(subject.options)
    shared = (threads or options.threads or physical_cores()) // max(1, options.streams)
    options = replace(options, threads=max(1, shared), streams=1, config={**options.config, **_RECORD})
    files = subject.files
    xml, data = files.read(XML_FILE), files.view(BIN_FILE)
    executor = OpenVinoExecutor(xml, data, options, subject.inputs, subject.outputs)
    for _ in range(WARM_UP):
        results = executor.run(feeds)
    before = _sums(executor.recorded(), WARM_UP)
    walls: list[float] = []
    for _ in range(runs):
        begin = perf_counter()
        results = executor.run(feeds)
        walls.append(perf_counter() - begin)
    after = executor.recorded()
    totals, nodes = _sums(after, WARM_UP + runs), _executed(executor.compiled, _sources(files, xml, data))
    kernels = [
        _kernel(each, max(0, totals[each.node_name] - before.get(each.node_name, 0)) / runs / 1e3, nodes)
        for each in after
        if each.status.name == "EXECUTED"
    ]
    run_ms = middle_mean(walls) * 1e3
    profile = Profile(subject.engine, options.threads or 1, runs, run_ms, tuple(kernels), tuple(_calls(kernels)))
    return profile, results


def _sums(noted: Sequence[Any], runs: int) -> dict[str, int]:
    """What each node took in all runs so far, in µs: OpenVINO tells the mean over them."""
    return {each.node_name: round(each.real_time.total_seconds() * 1e6) * runs for each in noted}


def _kernel(noted: Any, ms: float, nodes: Mapping[str, _Node]) -> Kernel:
    node = nodes.get(noted.node_name, _UNKNOWN)
    return Kernel(noted.node_name, noted.node_type, ms, 1.0, node.sources, node.inputs, node.outputs, noted.exec_type)


def _calls(kernels: Sequence[Kernel]) -> Iterator[Call]:
    begin = 0.0
    for kernel in kernels:
        yield Call(kernel, begin, kernel.ms * 1e3)
        begin += kernel.ms * 1e3


@dataclass(frozen=True, slots=True)
class _Node:
    """A node as it runs: what it stands for, and the types of what it takes and makes."""

    sources: tuple[Provenance, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


_UNKNOWN = _Node()


def _executed(compiled: Any, sources: Mapping[str, tuple[Provenance, ...]]) -> dict[str, _Node]:
    """The nodes of the graph that runs, by name; one inserted by OpenVINO counts to what it feeds, else to what feeds it."""
    nodes = compiled.get_runtime_model().get_ordered_ops()
    found: dict[int, tuple[Provenance, ...]] = {}
    for index, node in enumerate(nodes):
        fused = (sources[name] for name in _fused(node, sources))
        known = tuple(dict.fromkeys(each for several in fused for each in several))
        if known:
            found[index] = known
    edges = _Edges(())
    spread([edges.step(node) for node in nodes], found)
    return {
        node.get_friendly_name(): _Node(found.get(index, ()), _types(node.input_values()), _types(node.outputs()))
        for index, node in enumerate(nodes)
    }


def _fused(node: Any, known: Container[str]) -> list[str]:
    """The nodes of `model.xml` that one does the work of."""
    info = node.get_rt_info()
    return split_names(str(info["originalLayersNames"].value), known) if "originalLayersNames" in info else []


def split_names(text: str, known: Container[str]) -> list[str]:
    """The `known` names in a text that has a comma between any two; names may have commas themselves."""
    parts, names = text.split(","), list[str]()
    while parts:
        lengths = range(len(parts), 0, -1)
        length = next((length for length in lengths if ",".join(parts[:length]) in known), 0)
        if length:
            names.append(",".join(parts[:length]))
        parts = parts[max(1, length) :]
    return names


def _types(values: Sequence[Any]) -> tuple[str, ...]:
    """Types and shapes, such as `f32[1,3]`."""
    return tuple(f"{value.get_element_type().to_string()}{value.get_partial_shape()}" for value in values)


def _sources(files: EngineFiles, xml: bytes, data: Buffer) -> dict[str, tuple[Provenance, ...]]:
    """The ops that each node of `model.xml` does the work of, by its name; of an older artifact nothing is known."""
    if OPS_FILE not in files.files:
        return {}
    import onnx  # for profiles only: running an artifact does without

    lowered = onnx.load_model_from_string(files.read(OPS_FILE)).graph
    given, sources = read_steps(lowered), read_sources(lowered)
    edges = _Edges({name for step in given.nodes for name in step.outputs})
    nodes = [node for node in read_model(xml, data).get_ordered_ops() if node.get_type_name() not in _NO_WORK]
    made = Steps(tuple(edges.step(node) for node in nodes), frozenset())
    traced = trace_back(given, made)
    return {
        step.name: tuple(sources[each.name] for each in back if each.name in sources)
        for step, back in zip(made.nodes, traced, strict=True)
    }


class _Edges:
    """Names for the values of a graph of OpenVINO: one in `known` where a value has it, else one of its own."""

    def __init__(self, known: Collection[str]) -> None:
        self._known = known

    def step(self, node: Any) -> Step:
        """A node with the names of what it takes and makes."""
        inputs, outputs = (tuple(map(self._name, values)) for values in (node.input_values(), node.outputs()))
        return Step(node.get_friendly_name(), node.get_type_name(), inputs, outputs)

    def _name(self, value: Any) -> str:
        named = sorted(name for name in value.get_names() if name in self._known)
        return named[0] if named else f"\0{value.get_node().get_friendly_name()}:{value.get_index()}"
