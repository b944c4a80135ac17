# pyright: basic
"""Random movement: whatever reshapes, transposes and their like are written in a row, every element comes out at its place."""

from __future__ import annotations

import random

import numpy as np
import pytest

from irc.ir import Graph, clone_graph, evaluate, verify
from irc.ir.text import parse_graph, print_graph
from irc.passes import PassManager, op_count, registry

from .meaning import feeds_for, nearly_same, run, same_bits


class Writer:
    """Writes a program of values of known shapes, line by line."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.lines: list[str] = []
        self.values: list[tuple[str, list[int]]] = []

    def constant(self, numbers: list[int]) -> str:
        name = f"%c{len(self.lines)}"
        self.lines.append(f"  {name} = const @_ : i64[{len(numbers)}] = {numbers}")
        return name

    def op(self, text: str, shape: list[int]) -> None:
        name = f"v{len(self.values)}"
        self.lines.append(f"  %{name} = {text}")
        self.values.append((name, shape))

    def graph(self, inputs: dict[str, list[int]]) -> Graph:
        text = "\n".join(self.lines)
        made = [(name, shape) for name, shape in self.values if name not in inputs]
        last = [v for v in made if f"%{v[0]})" not in text and f"%{v[0]}," not in text]
        declare = ", ".join(f"%{n}: f32[{','.join(map(str, s))}]" for n, s in inputs.items())
        results = ", ".join(f"%{n}: f32[{','.join(map(str, s))}]" for n, s in last)
        returned = ", ".join(f"%{n}" for n, _ in last)
        return parse_graph(f"graph @main({declare}) -> ({results}) {{\n{text}\n  return {returned}\n}}\n", name="random")


def factors(rng: random.Random, total: int) -> list[int]:
    """A shape of so many elements, now and then with dims of size 1."""
    shape: list[int] = []
    while total > 1:
        shape.append(rng.choice([d for d in range(2, total + 1) if total % d == 0]))
        total //= shape[-1]
    for _ in range(rng.randrange(3)):
        shape.insert(rng.randrange(len(shape) + 1), 1)
    return shape or [1]


def chain(seed: int) -> Graph:
    """Reshapes, transposes, blocks and elementwise ops, one behind the other."""
    out = Writer(seed)
    shape = factors(out.rng, out.rng.choice([8, 12, 16, 36, 64, 144]))
    inputs = {"x": shape}
    out.values.append(("x", shape))
    for _ in range(out.rng.randrange(2, 7)):
        name, shape = out.values[-1]
        kind = out.rng.choice("RRTTTEDS")
        if kind == "R":
            target = factors(out.rng, int(np.prod(shape)))
            out.op(f"Reshape(%{name}, {out.constant(target)})", target)
        elif kind == "D" and len(shape) == 4 and shape[1] % 4 == 0:
            mode = out.rng.choice(["DCR", "CRD"])
            grown = [shape[0], shape[1] // 4, shape[2] * 2, shape[3] * 2]
            out.op(f'DepthToSpace(%{name}) {{blocksize=2, mode="{mode}"}}', grown)
        elif kind == "S" and len(shape) == 4 and shape[2] % 2 == shape[3] % 2 == 0:
            out.op(f"SpaceToDepth(%{name}) {{blocksize=2}}", [shape[0], shape[1] * 4, shape[2] // 2, shape[3] // 2])
        elif kind == "E":
            out.op(f"Neg(%{name})", shape)
        else:
            order = out.rng.sample(range(len(shape)), len(shape))
            out.op(f"Transpose(%{name}) {{perm={order}}}", [shape[i] for i in order])
    return out.graph(inputs)


def web(seed: int) -> Graph:
    """Transposes among ops that can be flipped, values used several times."""
    out = Writer(seed)
    inputs = {f"x{i}": out.rng.sample([2, 3, 4], 3) for i in range(2)}
    out.values.extend(inputs.items())
    for _ in range(out.rng.randrange(5, 14)):
        name, shape = out.rng.choice(out.values[-4:])
        axis, kind = out.rng.randrange(len(shape)), out.rng.choice("TTTTUBCSPRMX")
        peers = [other for other, like in out.values if like == shape]
        if kind == "T":
            order = out.rng.sample(range(len(shape)), len(shape))
            out.op(f"Transpose(%{name}) {{perm={order}}}", [shape[i] for i in order])
        elif kind == "B":
            out.op(f"Sub(%{name}, %{out.rng.choice(peers)})", shape)
        elif kind == "C":
            joined = [d * (1 + (i == axis)) for i, d in enumerate(shape)]
            out.op(f"Concat(%{name}, %{out.rng.choice(peers)}) {{axis={axis}}}", joined)
        elif kind == "S" and shape[axis] > 1:
            bounds = ", ".join(out.constant([number]) for number in (1, shape[axis], axis - len(shape)))
            out.op(f"Slice(%{name}, {bounds})", [d - (i == axis) for i, d in enumerate(shape)])
        elif kind == "P":
            pads = [out.rng.randrange(2) for _ in range(2 * len(shape))]
            out.op(f"Pad(%{name}, {out.constant(pads)})", [d + pads[i] + pads[i + len(shape)] for i, d in enumerate(shape)])
        elif kind == "R" and len(shape) > 1:
            out.op(f"ReduceMean(%{name}, {out.constant([axis])}) {{keepdims=0}}", [d for i, d in enumerate(shape) if i != axis])
        elif kind == "X":
            out.op(f"Softmax(%{name}) {{axis={axis}}}", shape)
        else:
            out.op(f"Relu(%{name})", shape)
    return out.graph(inputs)


@pytest.mark.parametrize(("make", "pipeline"), [(chain, "rules{topics=movement}"), (web, "layout")])
@pytest.mark.parametrize("seed", range(60))
def test_every_element_comes_out_at_its_place(seed: int, make, pipeline: str) -> None:
    graph, passes = make(seed), registry().pipeline(pipeline)
    after, manager = run(graph, passes)
    verify(after)
    for special in (False, True):
        feeds = feeds_for(graph, {}, seed, special=special)
        same = nearly_same if manager.totals["layout-of-sums"] else same_bits
        for a, b in zip(evaluate(graph, feeds), evaluate(after, feeds), strict=True):
            assert same(a, b), f"{print_graph(graph)}\nbecame\n{print_graph(after)}"
    assert make is web or op_count(after) <= op_count(graph)
    transposes = [sum(op.is_a("Transpose") for op in one.walk()) for one in (graph, after)]
    assert make is chain or transposes[1] <= transposes[0]
    assert not run(clone_graph(after), passes)[1].totals, "a second run finds something"


@pytest.mark.parametrize("limit", range(3))
def test_layout_stops_at_the_rewrite_limit_and_leaves_nothing_behind(limit: int) -> None:
    pair = "  %t{0} = Transpose(%{1}) {{perm=[1,0]}}\n  %r{0} = Relu(%t{0})\n  %u{0} = Transpose(%r{0}) {{perm=[1,0]}}\n"
    conv = "  %s = CumSum(%u0, %axis)\n"
    body = "  %axis = const @_ : i64[] = [0]\n" + pair.format(0, "x") + conv + pair.format(1, "s")
    graph = parse_graph(f"graph @main(%x: f32[2,3]) -> (%u1: f32[2,3]) {{\n{body}  return %u1\n}}\n", name="pairs")
    manager = PassManager(registry().pipeline("layout"), rewrite_limit=limit)
    after = manager.run(clone_graph(graph))
    verify(after)
    assert sum(manager.totals.values()) == limit
    assert op_count(after) == 7 - 2 * limit
