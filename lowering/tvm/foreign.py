"""Ops that irc has no kernels for, and TVM has: FOREIGN lists them, and what computes them is asked of TVM once.

Law: an op is here only where TVM's answer is ONNX Runtime's, which the tests hold it to, and where no operand makes it read
outside of its own memory. What TVM said is kept in the cache, under a hash of the op as a model and of TVM's version.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from irc.ir import DType, Graph, Op, UsageError, Value, at, constant_op, to_model
from irc.runtime import EngineFailure, RunError, Worker, read_entry, write_entry

from ..targets import Target
from .adapter import installed_version
from .building import llvm_target
from .expressions import dtype_of, shape_of
from .kernel import Kernel
from .lowerer import Lowerer
from .places import Buffer, Place
from .regions import Region, tree_of
from .trees import evaluate_tree
from .views import View
from .ways import Ways

FORMAT = 1
"""Goes up when `expressing` makes something else of the same model."""
LARGEST_KNOWN = 64
"""Elements of a constant that TVM is told; larger ones are operands."""
LONGEST_SEARCH = 30.0
"""Seconds that MetaSchedule searches for one op at most."""
SHARE_OF_SEARCH = 0.5
"""The share of the time that there is for a trial that it has for all of them."""
_TIMEOUT = 120.0
"""Seconds that TVM may take for one op."""
DEFAULT = "default"
"""The way of kernels whose loops are in the order that serves any CPU; others say the numbers of MetaSchedule's proposals."""
_DTYPES = {dtype.numpy.name: dtype for dtype in DType}


@dataclass(frozen=True, slots=True)
class Expressed:
    """Calls of kernels, each on slots of which it writes the last; slots are given, constants, results, or work memory."""

    slots: tuple[tuple[DType, int], ...]
    constants: Mapping[int, bytes]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    calls: tuple[tuple[Kernel, tuple[int, ...]], ...]


def why_not_foreign(op: Op) -> str:
    """Why TVM does not compute an op, as a clause; empty where it does."""
    if op.qualified_name not in FOREIGN:
        return "there is no kernel for it"
    if not installed_version():
        return "TVM, which makes its kernels, is not installed"
    reason = FOREIGN[op.qualified_name](op)
    found = reason or expressed(alone(op)[0])
    return found if isinstance(found, str) else ""


def lower_foreign(lowerer: Lowerer, region: Region) -> None:
    """The calls that TVM makes of an op; what is pointwise behind it comes after them."""
    op = region.op
    model, given = alone(op)
    key = key_of(op)
    way = lowerer.ways.text(key) or DEFAULT
    found = expressed(model, way)
    if isinstance(found, str):
        raise UsageError(f"'{way}', for the kernel {key}, is no way to make it: {found}", hint="compile without it")
    buffers = {slot: lowerer.dense(value).buffer for slot, value in zip(found.inputs, given, strict=True)}
    for slot, content in found.constants.items():
        dtype = found.slots[slot][0]
        buffers[slot] = lowerer.constant(np.frombuffer(content, dtype.numpy), dtype)
    for slot, value in zip(found.outputs, op.results, strict=False):
        if slot in buffers:
            lowerer.places[value] = Place(buffers[slot], View.dense(shape_of(value)))
        else:
            buffers[slot] = lowerer.fresh(value).buffer
    for kernel, slots in found.calls:
        for slot in slots:
            buffers.setdefault(slot, Buffer(*found.slots[slot]))
        lowerer.call(replace(kernel, way=f"{key} {way}"), [buffers[slot] for slot in slots], (op,))
    if region.tree is not None:
        evaluate_tree(lowerer, tree_of(region.tree.ops))


def alone(op: Op) -> tuple[bytes, list[Value]]:
    """A model of an op alone, whose names say nothing, and the values that it is given; small constants are in the model."""
    graph, given, operands = Graph("op"), list[Value](), list[Value | None]()
    for value in op.operands:
        tensor = None if value is None else value.constant
        if value is None:
            operands.append(None)
        elif tensor is not None and tensor.size <= LARGEST_KNOWN:
            operands.append(graph.append(constant_op(tensor, at("op"))).result)
        else:
            operands.append(graph.add_input(f"x{len(given)}", value.type))
            given.append(value)
    kinds = [result.type for result in op.results]
    made = graph.append(Op(op.name, operands, op.attributes, kinds, at("op"), domain=op.domain, version=op.version))
    for number, result in enumerate(made.results):
        graph.add_output(result, f"y{number}")
    model = to_model(graph)
    return model.SerializeToString(deterministic=True), given


def key_of(op: Op) -> str:
    """What `Ways` calls the kernels of an op that TVM computes."""
    return f"foreign-{hashlib.sha256(alone(op)[0]).hexdigest()[:16]}"


@lru_cache(maxsize=256)
def expressed(model: bytes, way: str = DEFAULT) -> Expressed | str:
    """What TVM makes of a model in one way, from the cache where it is there, or why nothing, as a clause."""
    parts = json.dumps((FORMAT, installed_version(), way)).encode()
    entry = f"foreign-{hashlib.sha256(parts + model).hexdigest()}.json"
    kept = read_entry(entry).content
    if kept is None:
        named = [each.partition(":")[::2] for each in way.split(",") if way != DEFAULT]
        if not all(number.isdecimal() for _, number in named):
            return "it names no proposals"
        chosen = {name: int(number) for name, number in named}
        try:
            said = ask(model, chosen=json.dumps(chosen))
        except RunError as error:
            return f"TVM fails on it: {error}"
        kept = json.dumps({"reason": said["reason"]} if "reason" in said else json.loads(said["expressed"])).encode()
        write_entry(entry, kept)
    known = json.loads(kept)
    return str(known["reason"]) if "reason" in known else _parsed(known)


def searched(op: Op, target: Target, seconds: float) -> str:
    """The way of an op that MetaSchedule finds on this machine in about so many seconds.

    It is the default where none is better. It is kept in the cache. Raises EngineFailure where the search fails.
    """
    model, machine = alone(op)[0], llvm_target(target)
    names = json.dumps({"triple": machine.triple, "processor": machine.processor, "features": machine.features})
    parts = json.dumps((FORMAT, installed_version(), names, round(math.log2(seconds)))).encode()
    entry = f"foreign-{hashlib.sha256(parts + model).hexdigest()}.json"
    kept = read_entry(entry).content
    if kept is None:
        said = ask(model, seconds=str(seconds), machine=names)
        if "reason" in said:
            raise EngineFailure(f"MetaSchedule fails on {op.qualified_name}: {said['reason']}")
        kept = said["chosen"].encode()
        write_entry(entry, kept)
    chosen: dict[str, int] = json.loads(kept)
    return ",".join(f"{name}:{number}" for name, number in sorted(chosen.items())) or DEFAULT


def ask(model: bytes, **question: str) -> dict[str, str]:
    """What a process of TVM's says of a model; raises EngineFailure where it says nothing."""
    with Worker("asking TVM for kernels", (), f"{__package__}.expressing_worker") as worker:
        worker.ask(json.dumps({"model": base64.b64encode(model).decode(), **question}))
        fields = worker.answer(_TIMEOUT + 2 * float(question.get("seconds", 0)))
    said = {name: fields.optional_text(name) for name in ("reason", "chosen", "expressed")}
    return {name: text for name, text in said.items() if text is not None}


def _parsed(said: Mapping[str, Any]) -> Expressed | str:
    unknown = [slot["kind"] for slot in said["slots"] if slot["kind"] not in _DTYPES]
    if unknown:
        return f"it computes in {unknown[0]}"
    arity = {call[0]: len(call) - 1 for call in said["calls"]}
    kernels = [Kernel(each["source"], each["tasks"], arity[number]) for number, each in enumerate(said["kernels"])]
    calls: list[list[int]] = said["calls"]
    return Expressed(
        tuple((_DTYPES[slot["kind"]], int(slot["size"])) for slot in said["slots"]),
        {int(slot): base64.b64decode(content) for slot, content in said["constants"].items()},
        tuple(said["inputs"]),
        tuple(said["outputs"]),
        tuple((kernels[number], tuple(slots)) for number, *slots in calls),
    )


def with_searched(ways: Ways, ops: Sequence[Op], target: Target, deadline: float) -> Ways:
    """Ways in which the ops that TVM computes have what MetaSchedule finds: all that there is to try, so in the first trial.

    `deadline` is a time of `time.monotonic`. Raises EngineFailure where a search fails.
    """
    if ways.trial != 1:
        return ways
    chosen = dict(ways.chosen)
    wanted = {key: op for key, op in ((key_of(op), op) for op in ops) if key in ways.tried and key not in chosen}
    for number, (key, op) in enumerate(wanted.items()):
        share = (deadline - time.monotonic()) * SHARE_OF_SEARCH / (len(wanted) - number)
        chosen[key] = searched(op, target, max(1.0, min(LONGEST_SEARCH, share)))
    return replace(ways, chosen=tuple(sorted(chosen.items())))


def _of(*dtypes: DType) -> Callable[[Op], str]:
    """Asks that the first operand is of one of some dtypes."""

    def why_not(op: Op) -> str:
        dtype = dtype_of(op.needed(0))
        return "" if dtype in dtypes else f"it does not compute in {dtype.text}"

    return why_not


def _all_constant(first: int, why_not: Callable[[Op], str]) -> Callable[[Op], str]:
    """Asks that operands from one on are constant, beside what `why_not` asks."""

    def also(op: Op) -> str:
        computed = any(value is not None and value.constant is None for value in op.operands[first:])
        return "what says how it computes is computed" if computed else why_not(op)

    return also


def _sampled(op: Op) -> str:
    """Beyond an edge TVM gives the pixel next to it a weight of 0, which makes NaN of an infinity; ONNX Runtime does not."""
    if op.string("mode", "linear") == "linear" and op.string("padding_mode", "zeros") != "zeros":
        return "it repeats what is at its edges"
    return _SINGLE(op)


_SINGLE = _of(DType.F32)
_NUMBERS = _of(DType.F32, DType.F64, DType.I32, DType.I64)

FOREIGN: Mapping[str, Callable[[Op], str]] = {
    **dict.fromkeys(("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cosh", "Sinh", "Tan"), _SINGLE),
    "AffineGrid": _all_constant(1, _SINGLE),
    "AveragePool": _SINGLE,
    "Einsum": _NUMBERS,
    "Gemm": _of(DType.F64),
    "GlobalLpPool": _SINGLE,
    "GridSample": _sampled,
    "LRN": _SINGLE,
    "LpPool": _SINGLE,
    "MatMul": _of(DType.F64, DType.I32, DType.I64),
    "MatMulInteger": _of(DType.I8, DType.U8),
    "MaxPool": _of(DType.I8, DType.U8),
    "MeanVarianceNormalization": _SINGLE,
    "Shrink": _SINGLE,
}
"""What is asked of each op that TVM computes."""
