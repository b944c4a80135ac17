"""One architecture tried: captured, compiled at O2, and run against eager PyTorch at the example's sizes and at others.

Law: agreement counts only where the answers depend on the inputs, and the answers of eager are made before irc sees the module.
"""

# pyright: basic
from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from irc.ir import Graph, IrcError, UnsupportedError
from irc.ir.capture.torch import capture_torch
from irc.lowering import Compiled, CompileOptions
from irc.runtime import FeedError, RunError
from irc.torch import TorchProgram, compile_captured

from .table import TABLE, Architecture, Call, build

BAR = 1e-4
"""The greatest relative L2 distance at which an output agrees."""
SENSITIVE = 1e-3
"""How far answers have to move, relatively, when all inputs do."""

COMPOSITES = frozenset(
    {
        "Attention",
        "RotaryEmbedding",
        "LayerNormalization",
        "RMSNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "BatchNormalization",
        "Gelu",
        "Swish",
        "Mish",
        "HardSwish",
        "HardSigmoid",
        "Softplus",
        "Elu",
        "Selu",
        "PRelu",
        "LSTM",
        "GRU",
        "RNN",
        "Resize",
        "GridSample",
        "If",
        "Loop",
        "Scan",
    }
)
"""What torch knows as one operation, and engines run best as one op."""


@dataclass(frozen=True)
class Trial:
    """What came of an architecture.

    `outcome` is "agrees", "differs" (with eager), "fails" (in irc or the engine), "ignores its input" (so that agreement
    would say nothing) or "refused" (by torch.export itself, which is not counted); `reason` says more where it does not agree.
    `example` and `other` are the worst distances at the example's sizes and at those where `changed` is different.
    """

    name: str
    family: str
    outcome: str
    reason: str = ""
    example: float | None = None
    other: float | None = None
    changed: str = ""
    dynamic: tuple[str, ...] = ()
    captured: int = 0
    left: int = 0
    composites: Mapping[str, int] = field(default_factory=dict)
    capture_seconds: float = 0.0
    compile_seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> bool:
        """Whether irc answers for the outcome."""
        return self.outcome != "refused"

    @property
    def good(self) -> bool:
        """Whether it agrees with eager wherever it was run."""
        return self.outcome == "agrees"


def attempt(name: str) -> Trial:
    """Try the architecture of this name."""
    architecture, family = build(name), TABLE[name].family
    example = architecture.example
    expected = eager(architecture, example)
    movement = distance(eager(architecture, moved(example)), expected, strictly=False)
    if not SENSITIVE <= movement < float("inf"):
        return Trial(name, family, "ignores its input", f"other inputs move its answers by {movement:.0e}")
    others = [(what, call, eager(architecture, call)) for what, call in architecture.others]
    try:
        return compared(name, family, architecture, expected, others)
    except UnsupportedError as failure:
        if (refusal := refused(architecture)) is not None:
            return Trial(name, family, "refused", refusal)
        return Trial(name, family, "fails", sentence(failure))
    except (IrcError, RunError) as failure:
        return Trial(name, family, "fails", sentence(failure))


@dataclass(frozen=True)
class Compilation:
    """An architecture compiled, and how long the two halves of it took."""

    program: TorchProgram
    compiled: Compiled
    capture_seconds: float
    compile_seconds: float


def compile_alone(name: str, architecture: Architecture) -> Compilation:
    """What `irc.compile` does with the architecture's module and example, at O2 on one thread, with what it lets go of."""
    example = architecture.example
    start = time.perf_counter()
    captured = capture_torch(architecture.module, example.args, example.kwargs, architecture.dynamic_shapes)
    between = time.perf_counter()
    options = CompileOptions(engine_options={"threads": 1})
    compiled = compile_captured(captured, name, options, example.args, dict(example.kwargs))
    program = TorchProgram(compiled.program, captured, compiled.notes)
    return Compilation(program, compiled, between - start, time.perf_counter() - between)


def compared(name: str, family: str, architecture: Architecture, expected: Any, others: list[tuple[str, Call, Any]]) -> Trial:
    """The architecture compiled, and its answers beside those of eager."""
    example = architecture.example
    compilation = compile_alone(name, architecture)
    compiled, program = compilation.compiled, compilation.program
    nodes = compiled.program.manifest.nodes
    assert nodes is not None
    worst = distance(called(program, example), expected)
    changed, other = at_other_sizes(program, others)
    apart = [at for at, found in (("the example's sizes", worst), (f"another {changed}", other)) if (found or 0.0) > BAR]
    return Trial(
        name,
        family,
        "differs" if apart else "agrees",
        f"at {' and '.join(apart)}" if apart else "",
        worst,
        other,
        changed,
        symbols(program),
        nodes.before,
        nodes.after,
        composites(compiled.graph),
        compilation.capture_seconds,
        compilation.compile_seconds,
        tuple(dict.fromkeys((*program.notes, *([] if compiled.agreement.agrees else [compiled.agreement.sentence])))),
    )


def at_other_sizes(program: TorchProgram, others: list[tuple[str, Call, Any]]) -> tuple[str, float | None]:
    """The distance at the first of the other sizes that the program takes, and what is different about them."""
    for what, call, expected in others:
        try:
            return what, distance(called(program, call), expected)
        except FeedError:  # torch.export fixed one of the dims; the table shows which are left
            continue
    return "", None


def eager(architecture: Architecture, call: Call) -> Any:
    """What the module returns, its own state left alone."""
    module, args, kwargs = copy.deepcopy((architecture.module, call.args, dict(call.kwargs)))
    with torch.no_grad():
        return module(*args, **kwargs)


def called(program: TorchProgram, call: Call) -> Any:
    """What the program returns in its first state."""
    program.reset_state()
    args, kwargs = copy.deepcopy((call.args, dict(call.kwargs)))
    return program(*args, **kwargs)


def moved(call: Call) -> Call:
    """The same inputs with other numbers: floats drawn anew, integers mirrored in their range, rows of boxes turned round.

    Masks stay as they are, and what ascends: positions and offsets.
    """
    generator = torch.Generator().manual_seed(9)

    def other(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or not leaf.numel():
            return leaf
        if leaf.is_floating_point():
            return torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
        if leaf.dtype == torch.bool or leaf.max() <= 1 or bool((leaf.diff() >= 0).all()):
            return leaf
        return leaf.flip(1) if leaf.dim() > 2 else leaf.max() + leaf.min() - leaf

    args, kwargs = pytree.tree_map(other, copy.deepcopy((call.args, dict(call.kwargs))))
    return Call(args, kwargs)


def distance(found: Any, expected: Any, *, strictly: bool = True) -> float:
    """The greatest relative L2 distance of any output; infinite where integers, structure or what is not finite differ.

    Without `strictly` only floats of the same shape count.
    """
    (ours, our_tree), (theirs, their_tree) = pytree.tree_flatten(found), pytree.tree_flatten(expected)
    if our_tree != their_tree:
        return float("inf")
    worst = 0.0
    for one, other in zip(ours, theirs, strict=True):
        if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) and other.is_floating_point():
            worst = max(worst, float_distance(one, other))
        elif strictly and not (torch.equal(one, other) if isinstance(other, torch.Tensor) else one == other):
            return float("inf")
    return worst


def float_distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The relative L2 distance in float64 of what is finite; the rest has to be the same."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    finite = expected.isfinite()
    if not torch.equal(found.isfinite(), finite) or not torch.equal(
        found[~finite].nan_to_num(), expected[~finite].nan_to_num()
    ):
        return float("inf")
    one, other = found[finite].double(), expected[finite].double()
    return float((one - other).norm() / other.norm().clamp(min=1e-12))


def refused(architecture: Architecture) -> str | None:
    """Why torch.export does not take the module even with every size fixed; None where it does."""
    args, kwargs = copy.deepcopy((architecture.example.args, dict(architecture.example.kwargs)))
    try:
        with torch.no_grad():
            torch.export.export(architecture.module, args, kwargs, strict=False)
    except Exception as error:  # whatever the module's code or any part of torch raises while it is traced
        return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
    return None


def symbols(program: TorchProgram) -> tuple[str, ...]:
    """The dims of the inputs that are not fixed, in order."""
    sizes = (size for value in program.inputs for size in value.shape or ())
    return tuple(dict.fromkeys(size for size in sizes if isinstance(size, str)))


def composites(graph: Graph) -> dict[str, int]:
    """How many of each composite the optimized graph has, the most first."""
    counted = Counter(op.name for op in graph.walk())
    return {op: count for op, count in counted.most_common() if op in COMPOSITES}


def sentence(failure: Exception) -> str:
    """The first line of what an error says."""
    return f"{type(failure).__name__}: {next(iter(str(failure).strip().splitlines()), '')}"


__all__ = ["BAR", "Compilation", "Trial", "attempt", "compile_alone"]
