"""Whether a program still answers as its model does: both run on given or made-up inputs, the model by the reference.

Floats are compared by relative L2 distance in float64, integers may be one step away. In a quantized model a rounding may
fall the other way, so there an output may be one step of its scale away. Where the reference itself is further from what
the model means in float64 than its answers may be apart, its rounding is no better than another: float64 then settles it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import Enum
from math import isfinite, prod, sqrt
from pathlib import Path
from typing import Any, cast

import numpy as np

from irc.ir import DType, EvaluationError, Graph, Op, TensorType, UsageError, Value, evaluate, evaluate_wide, schema, trim_heap
from irc.runtime import EngineFailure, FeedChecker, FeedError, Program, SignatureEntry, random_inputs, read_inputs

from .signatures import input_entries

Array = np.ndarray[Any, Any]
_TOLERANCE = {DType.F16: 1e-3, DType.BF16: 1e-2}
_HALF = (DType.F16, DType.BF16)
QUANTIZED_TOLERANCE = 5e-2
LARGEST_PROBE = 1 << 28
"""Elements that made-up inputs may have; the check is not worth more memory than that."""


class Verify(Enum):
    """What is checked while compiling; the value is the word for it."""

    NOTHING = "nothing"
    ANSWERS = "answers"  # the finished program, from O2 on or where passes are the user's
    REWRITES = "rewrites"  # the finished program at every level, and each rewrite before it is done


MADE_UP = "made-up inputs"
GIVEN = "the given inputs"
EXAMPLES = "the example inputs"


@dataclass(frozen=True)
class Agreement:
    """How a program did: the worst output and its distance, or why nothing could be said."""

    agrees: bool
    output: str = ""
    distance: float = 0.0
    unknown: str = ""
    inputs: str = MADE_UP
    settled: bool = False
    """Whether float64 had to settle it: the distance is more than rounding usually comes to, and so is the reference's own."""

    @property
    def sentence(self) -> str:
        """For people."""
        if self.unknown:
            return f"not checked against the reference: {self.unknown}"
        if self.settled:
            return (
                f"is as near to float64 as the reference on {self.inputs}; they differ most, by {self.distance:.1e}, "
                f"at output '{self.output}'"
            )
        word = "agrees with" if self.agrees else "differs from"
        return f"{word} the reference on {self.inputs}, worst output '{self.output}' by {self.distance:.1e}"


@dataclass(frozen=True)
class Probe:
    """Inputs, what the reference makes of them, and where they are from; `more` are others, for other sizes.

    `allowance` is how far answers may be from these, where that is more than rounding comes to.
    """

    feeds: Mapping[str, Any]
    answers: Sequence[Any]
    inputs: str = MADE_UP
    more: tuple[Probe, ...] = ()
    allowance: float = 0.0
    _exact: list[Sequence[Any] | None] = field(default_factory=list[Sequence[Any] | None], repr=False, compare=False)

    def exact_answers(self, graph: Graph) -> Sequence[Any] | None:
        """What `graph` makes of the inputs in float64, or None where that cannot be had; evaluated once."""
        if not self._exact:
            try:
                self._exact.append(evaluate_wide(graph, self.feeds))
            except EvaluationError:
                self._exact.append(None)
        return self._exact[0]


# Sizes to try for named and unknown dims, (of a first axis, of the others): images and sequences want room, the rest is
# for models whose dims are tied to each other.
_SIZES = ((2, 64), (1, 32), (2, 2), (1, 1))


def probe_of(graph: Graph, inputs: Path | None, examples: Mapping[str, Any] | None = None) -> Probe | str:
    """The inputs in an `.npz` file, or else examples, or else made-up ones; or why there are none.

    Raises UsageError where the file does not fit the model or the reference fails on it, FeedError where it is no such file.
    """
    entries = input_entries(graph)
    try:
        if inputs is None:
            return make_probe(graph, entries) if examples is None else _probe_of_examples(graph, entries, examples)
        feeds = FeedChecker(entries).check(read_inputs(entries, inputs))
        return Probe(feeds, evaluate(graph, cast("Mapping[str, Any]", feeds)), GIVEN)
    except FeedError as error:
        raise UsageError(error.message, location=error.location or str(inputs), hint=error.hint) from error
    except EvaluationError as error:
        raise UsageError(error.message, location=str(inputs), hint="give inputs on which the model runs") from error
    finally:
        trim_heap()  # the reference has had all weights once, and the program is going to


def allowing(probe: Probe | str, allowance: float) -> Probe | str:
    """A probe whose answers may be so far off."""
    return probe if isinstance(probe, str) else replace(probe, allowance=allowance)


def probing(
    graph: Graph, inputs: Path | None, examples: Mapping[str, Any] | None = None, allowance: float = 0.0
) -> Callable[[], Probe | str]:
    """`probe_of`, begun beside what its caller does meanwhile; to be called for what it gives or raises."""
    thread = ThreadPoolExecutor(1, "irc-reference")
    result = thread.submit(lambda: allowing(probe_of(graph, inputs, examples), allowance)).result
    thread.shutdown(wait=False)
    return result


def _probe_of_examples(graph: Graph, inputs: Sequence[SignatureEntry], examples: Mapping[str, Any]) -> Probe | str:
    try:
        feeds = FeedChecker(inputs).check(examples)
        return Probe(feeds, evaluate(graph, cast("Mapping[str, Any]", feeds)), EXAMPLES)
    except (FeedError, EvaluationError) as error:
        return error.message


def make_probe(graph: Graph, inputs: Sequence[SignatureEntry], seed: int = 0) -> Probe | str:
    """Inputs the reference accepts, with its answers, or why there are none."""
    reason = ""
    for first, others in _SIZES if any(_is_open(entry) for entry in inputs) else _SIZES[:1]:
        sized = _sized(inputs, first, others)
        if sum(_element_count(entry) for entry in sized) > LARGEST_PROBE:
            reason = f"its inputs have more than {LARGEST_PROBE:,} elements"
            continue
        try:
            feeds: dict[str, Any] = random_inputs(sized, {}, seed)
            return Probe(feeds, evaluate(graph, feeds))
        except (EvaluationError, FeedError) as error:
            reason = error.message
    return reason


def _is_open(entry: SignatureEntry) -> bool:
    return any(not isinstance(dim, int) for dim in entry.shape or ())


def _sized(inputs: Sequence[SignatureEntry], first: int, others: int) -> list[SignatureEntry]:
    """The inputs with a number for every open dim; one name has one number, wherever it stands."""
    named: dict[str, int] = {}

    def sized(axis: int, dim: int | str | None) -> int:
        if isinstance(dim, int):
            return dim
        size = others if axis else first
        return size if dim is None else named.setdefault(dim, size)

    shapes = (None if e.shape is None else tuple(sized(axis, d) for axis, d in enumerate(e.shape)) for e in inputs)
    return [replace(entry, shape=shape) for entry, shape in zip(inputs, shapes, strict=True)]


def _element_count(entry: SignatureEntry) -> int:
    return 0 if entry.optional else prod(dim for dim in entry.shape or () if isinstance(dim, int))


def check(program: Program, graph: Graph, probe: Probe) -> Agreement:
    """How far `program` is from the reference on a probe of `graph`, at worst; outputs of random ops are left out."""
    found = [_check_one(program, graph, each) for each in (probe, *probe.more)]
    return max(found, key=lambda each: (not each.agrees, each.distance))


def _check_one(program: Program, graph: Graph, probe: Probe) -> Agreement:
    try:
        return check_answers(program.run(probe.feeds), graph, probe)
    except EngineFailure as error:
        return Agreement(False, error.message, float("inf"), inputs=probe.inputs)


def check_answers(answers: Mapping[str, Any], graph: Graph, probe: Probe) -> Agreement:
    """As `check`, for answers by the names of outputs that some program gave."""
    random = random_outputs(graph)
    quantized = is_quantized(graph)
    half = any(isinstance(r.type, TensorType) and r.type.dtype in _HALF for op in graph.walk() for r in op.results)
    worst: Agreement | None = None
    for index, (name, wanted) in enumerate(zip(graph.output_names, probe.answers, strict=True)):
        if name in random:
            continue
        found = distance(wanted, answers[name])
        bound = max(probe.allowance, QUANTIZED_TOLERANCE if quantized else _bound(graph.outputs[index], half))
        step = _step(graph.outputs[index]) if quantized else None
        good = found <= bound or (step is not None and isfinite(found) and _largest_gap(wanted, answers[name]) <= step)
        disputed = not good and found <= WORST_DISPUTE
        settled = disputed and _is_as_near(probe.exact_answers(graph), index, wanted, answers[name], bound)
        # What is out of bounds is worse than anything within, whatever the distances: each output has its own bound.
        if worst is None or (not (good or settled), found) > (not worst.agrees, worst.distance):
            worst = Agreement(good or settled, name, found, inputs=probe.inputs, settled=settled)
    return worst or Agreement(True, unknown="every output depends on random numbers", inputs=probe.inputs)


def is_quantized(graph: Graph) -> bool:
    """Whether a graph rounds to steps of a scale, where a rounding may fall the other way."""
    return any(op.name in _QUANTIZED for op in graph.walk())


_QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"})


WORST_DISPUTE = 0.1
"""The largest distance that float64 is asked about: what is further off is wrong, and evaluating it again would say no more."""
ERROR_GROWTH = 2.0
"""How many times the reference's own distance from float64 an answer may have: one bit more is lost than was."""


def _is_as_near(exact: Sequence[Any] | None, index: int, wanted: Any, got: Any, bound: float) -> bool:
    """Whether an answer in f32 is about as near to the one in float64 as the reference's is."""
    if exact is None or not isinstance(wanted, np.ndarray) or cast("Array", wanted).dtype != np.float32:
        return False
    truth = np.asarray(exact[index])
    mine, its = (distance(truth, answer.astype(np.float64)) for answer in cast("tuple[Array, Array]", (wanted, got)))
    return isfinite(mine) and its <= max(bound, ERROR_GROWTH * mine)


def _bound(output: Value, half: bool) -> float:
    kind = output.type
    own = _TOLERANCE.get(kind.dtype, 1e-4) if isinstance(kind, TensorType) else 1e-4
    return max(own, 1e-3) if half else own


def _step(output: Value) -> float | None:
    """One step of the scale that an output was dequantized with, if it was."""
    op = output.op
    scale = op.constant_operand(1) if op is not None and op.is_a("DequantizeLinear") else None
    return None if scale is None else 1.01 * float(np.abs(scale.array.astype(np.float64)).max())


def _largest_gap(wanted: Any, got: Any) -> float:
    return float(np.abs(np.asarray(wanted, np.float64) - np.asarray(got, np.float64)).max(initial=0.0))


def distance(wanted: Any, got: Any) -> float:
    """Relative L2 distance in float64; infinite where structure, type or shape differ, or NaN and Inf lie elsewhere.

    Integers that differ by at most one step are no distance apart.
    """
    if isinstance(wanted, list) and isinstance(got, list):
        return _parts_apart(cast("list[Any]", wanted), cast("list[Any]", got))
    if isinstance(wanted, dict) and isinstance(got, dict):
        first, second = cast("dict[Any, Any]", wanted), cast("dict[Any, Any]", got)
        values = np.asarray(list(first.values())), np.asarray([second.get(key) for key in first])
        return distance(*values) if first.keys() == second.keys() else float("inf")
    if not isinstance(wanted, np.ndarray) or not isinstance(got, np.ndarray):
        alike = type(cast("object", wanted)) is type(cast("object", got))
        return 0.0 if alike and wanted == got else float("inf")
    return _arrays_apart(cast("Array", wanted), cast("Array", got))


def _parts_apart(wanted: list[Any], got: list[Any]) -> float:
    if len(wanted) != len(got):
        return float("inf")
    return max((distance(a, b) for a, b in zip(wanted, got, strict=True)), default=0.0)


def _arrays_apart(wanted: Array, got: Array) -> float:
    if wanted.shape != got.shape or wanted.dtype != got.dtype:
        return float("inf")
    if wanted.dtype.kind in "OSUb":
        return 0.0 if np.array_equal(wanted, got) else float("inf")
    if wanted.dtype.kind in "iu" and _steps(wanted, got) <= 1:
        return 0.0
    flat = wanted.reshape(-1), got.reshape(-1)
    gap = norm = 0.0
    for start in range(0, wanted.size, _BLOCK):  # in float64 the whole would need several times its memory
        gaps, norms = _squares(*(each[start : start + _BLOCK] for each in flat))
        gap, norm = gap + gaps, norm + norms
    if not np.isfinite(gap):
        return float("inf")
    if wanted.dtype.kind in "iu" and not gap:
        return 1.0  # they differ, but in digits that float64 does not hold
    return sqrt(gap / norm) if norm else sqrt(gap)


_BLOCK = 1 << 20


def _squares(wanted: Array, got: Array) -> tuple[float, float]:
    """The squared length of the difference, infinite where NaN and Inf lie elsewhere, and of what is wanted."""
    wide = np.complex128 if wanted.dtype.kind == "c" else np.float64
    x, y = wanted.astype(wide), got.astype(wide)
    unequal = ~((x == y) | (np.isnan(x) & np.isnan(y)))
    norm = float(np.linalg.norm(x[np.isfinite(x)])) ** 2
    x, y = x[unequal], y[unequal]
    if not np.isfinite(x).all() or not np.isfinite(y).all():
        return float("inf"), norm
    return float(np.linalg.norm(x - y)) ** 2, norm


def _steps(wanted: Array, got: Array) -> int:
    """The largest difference of two arrays of integers, exactly: modulo 2**64 the difference of any two is right."""
    above, below = np.maximum(wanted, got).astype(np.uint64), np.minimum(wanted, got).astype(np.uint64)
    return int((above - below).max(initial=0))


def random_outputs(graph: Graph) -> set[str]:
    """The outputs that depend on an op that draws random numbers."""
    tainted: set[Value] = set()
    for op in graph:
        captured = (v for body in op.bodies for v in body.captures())
        if _draws(op) or any(v in tainted for v in (*op.operands, *captured)):
            tainted.update(op.results)
    return {name for name, value in zip(graph.output_names, graph.outputs, strict=True) if value in tainted}


def _draws(op: Op) -> bool:
    return not op.is_constant and schema.of(op) is not None and not schema.is_deterministic(op)
