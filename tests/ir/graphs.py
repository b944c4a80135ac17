"""Random small graphs for hypothesis: a dozen ops, odd names, constants of many dtypes, branches that capture.

`graphs()` draws verified graphs that ONNX Runtime runs; `feeds(graph)` draws inputs for one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from irc.ir import DType, Graph, Location, Op, Tensor, TensorType, Value, at, constant_op, dims, make, via

Draw = Callable[[st.SearchStrategy], object]  # type: ignore[type-arg]

NAMES = st.one_of(
    st.sampled_from(["x", "y", "0", "a b", "a.b/c:0", "é", 'quo"te', "back\\slash", "graph", "const", "_", "inf", "-1", ""]),
    st.text(max_size=4),
)
FLOATS = st.one_of(st.floats(-4, 4, width=32), st.sampled_from([0.0, -0.0, float("inf"), float("-inf"), float("nan")]))
SIZES = {"N": 3, "past + 1": 2}
"""What the named dims of these graphs are when they run."""

UNARY = ["Relu", "Neg", "Abs", "Exp", "Tanh", "Sigmoid", "Identity", "Floor"]
BINARY = ["Add", "Sub", "Mul", "Div", "Max", "Min"]


@dataclass
class Builder:
    """A graph being drawn, and the f32[shape] values that can be used next."""

    draw: Draw
    graph: Graph
    usable: list[Value] = field(default_factory=list)
    depth: int = 0

    def location(self) -> Location:
        """A location with any number of origins and rewrites."""
        origins = [at(name or "op") for name in self.draw(st.lists(NAMES, min_size=1, max_size=3))]  # type: ignore[attr-defined]
        if len(origins) == 1:
            return origins[0]
        return via(self.draw(st.sampled_from(["fold", "a rule", "fuse{x=1}"])), *origins)  # type: ignore[arg-type]

    def put(self, op: Op) -> Value:
        """Append an op under a drawn name; its result is usable from now on when it is f32."""
        self.graph.append(op)
        op.results[0].name = self.draw(NAMES)  # type: ignore[assignment]
        if isinstance(op.results[0].type, TensorType) and op.results[0].type.dtype is DType.F32:
            self.usable.append(op.results[0])
        return op.results[0]

    def pick(self) -> Value:
        """A usable value, the newer ones more often."""
        index = self.draw(st.integers(0, len(self.usable) - 1))
        return self.usable[-1 - index]  # type: ignore[operator]

    def constant(self) -> Value:
        """A constant that broadcasts with everything: f32 of rank 0, or one element."""
        shape = self.draw(st.sampled_from([(), (1,)]))
        array = np.full(shape, self.draw(FLOATS), np.float32)  # type: ignore[arg-type]
        return self.put(constant_op(Tensor.from_array(array), self.location()))

    def operation(self) -> None:
        """One more op."""
        kind = self.draw(st.sampled_from(["unary", "binary", "constant", "clip", "concat", "reduce", "cast", "split", "if"]))
        if kind == "unary":
            self.put(make(self.draw(st.sampled_from(UNARY)), [self.pick()], self.location()))  # type: ignore[arg-type]
        elif kind == "binary":
            first = self.pick()
            peers = [value for value in self.usable if value.shape == first.shape]
            second = self.draw(st.sampled_from(peers)) if self.draw(st.booleans()) else self.constant()
            self.put(make(self.draw(st.sampled_from(BINARY)), [first, second], self.location()))  # type: ignore[arg-type,list-item]
        elif kind == "constant":
            self.constant()
        elif kind == "clip":
            bound = constant_op(Tensor.from_array(np.float32(1.5)), self.location())
            self.graph.append(bound)
            self.put(make("Clip", [self.pick(), None, bound.result], self.location()))
        elif kind == "concat":
            value = self.pick()
            if value.shape:
                self.put(make("Concat", [value, value], self.location(), attributes={"axis": -1}))
        elif kind == "reduce":
            self.put(make("ReduceSum", [self.pick()], self.location(), attributes={"keepdims": self.draw(st.integers(0, 1))}))  # type: ignore[dict-item]
        elif kind == "cast":
            # Not straight back: ONNX Runtime drops a pair of casts even when a branch captures what is between or behind.
            there = make("Cast", [self.pick()], self.location(), attributes={"to": DType.F64.onnx_code})
            between = make("Abs", [self.put(there)], self.location())
            back = make("Cast", [self.put(between)], self.location(), attributes={"to": DType.F32.onnx_code})
            self.put(back)
        elif kind == "split":
            value = self.pick()
            if value.shape and value.shape[-1] == 4:
                op = make("Split", [value], self.location(), attributes={"axis": -1, "num_outputs": 2}, results=2)
                self.put(op)
                self.usable.append(op.results[1])
        elif self.depth < 2:
            self.choice()

    def choice(self) -> None:
        """An If on a condition that is computed, whose branches capture what is around them."""
        flag = make("IsNaN", [self.scalar()], self.location())
        self.graph.append(flag)
        wanted = self.pick()
        branches: list[Graph] = []
        for name in ("then", "else"):
            inner = Builder(self.draw, Graph(name), list(self.usable), self.depth + 1)
            for _ in range(self.draw(st.integers(0, 2))):  # type: ignore[arg-type]
                inner.operation()
            fitting = [value for value in inner.usable if value.type == wanted.type]
            inner.graph.add_output(self.draw(st.sampled_from(fitting)), self.draw(NAMES) or "out")  # type: ignore[arg-type]
            branches.append(inner.graph)
        attributes = {"then_branch": branches[0], "else_branch": branches[1]}
        self.put(make("If", [flag.result], self.location(), attributes=attributes))  # type: ignore[arg-type]

    def scalar(self) -> Value:
        """A f32 of rank 0 made from some value."""
        return self.put(make("ReduceMax", [self.pick()], self.location(), attributes={"keepdims": 0}))


@st.composite
def graphs(draw: Draw, most: int = 8) -> Graph:
    """A verified graph of a few inputs, up to `most` ops at a level and one to three outputs."""
    graph = Graph(draw(NAMES) or "main")  # type: ignore[arg-type]
    builder = Builder(draw, graph)
    shapes = st.sampled_from([(4,), (2, 4), (dims.named("N"), 4), (dims.named("past + 1"), dims.named("N")), ()])
    names: list[str] = draw(st.lists(NAMES.filter(bool), min_size=1, max_size=3, unique=True))  # type: ignore[assignment]
    for name in names:
        value = graph.add_input(name, TensorType(DType.F32, draw(shapes)))  # type: ignore[arg-type]
        value.name = name
        builder.usable.append(value)
    for _ in range(draw(st.integers(0, most))):  # type: ignore[arg-type]
        builder.operation()
    # In ONNX an output called like an input is that input.
    free = NAMES.filter(lambda name: bool(name) and name not in names)
    outputs: list[str] = draw(st.lists(free, min_size=1, max_size=3, unique=True))  # type: ignore[assignment]
    for name in outputs:
        graph.add_output(builder.pick(), name)
    return graph


@st.composite
def feeds(draw: Draw, graph: Graph) -> dict[str, np.ndarray]:
    """Inputs for a graph that `graphs` drew, with special values among them."""
    found: dict[str, np.ndarray] = {}
    for name, value in zip(graph.input_names, graph.inputs, strict=True):
        assert value.shape is not None
        shape = tuple(dims.evaluate(d, SIZES) or 0 for d in value.shape)
        count = int(np.prod(shape))
        numbers = draw(st.lists(FLOATS, min_size=count, max_size=count))
        found[name] = np.array(numbers, np.float32).reshape(shape)
    return found
