"""Whole programs of the engine for tests: built in this process, run, and compared with the reference."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper

from irc.ir import capture, evaluate
from irc.lowering import Compiled, CompileOptions, Verify, compile_model
from irc.lowering.targets import Target
from irc.lowering.tvm.adapter import object_file
from irc.lowering.tvm.building import llvm_target
from irc.lowering.tvm.kernel import Kernel, product

from ..models import info, model, node

ALONE = CompileOptions(engine="tvm", strict=True, passes="O0", opt_level=2, verify=Verify.NOTHING)
"""The ops as they are, all of them ours."""

Feeds = Mapping[str, np.ndarray]


def objects_here(kernels: Iterable[Kernel], target: Target, jobs: int, deadline: float = math.inf) -> dict[str, bytes]:
    """As `building.objects`, in this process and out of its memory."""
    llvm = llvm_target(target)
    return {each.name: _object(each.text, llvm.triple, llvm.processor, llvm.features) for each in kernels}


@cache
def _object(text: str, triple: str, processor: str, features: tuple[str, ...]) -> bytes:
    return object_file([text], triple, processor, features)


def of(nodes: Sequence[NodeProto], feeds: Feeds, outputs: Sequence[str], weights: Feeds | None = None) -> ModelProto:
    """A model whose inputs are those of `feeds`."""
    inputs = [info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape) for name, array in feeds.items()]
    return model(nodes, inputs, [helper.make_empty_tensor_value_info(name) for name in outputs], dict(weights or {}))


def compiled(message: ModelProto, options: CompileOptions = ALONE) -> Compiled:
    """The program of a model."""
    return compile_model(message.SerializeToString(), options)


def assert_right(message: ModelProto, feeds: Feeds, options: CompileOptions = ALONE) -> None:
    """The engine computes what the reference does: integers and bools exactly, floats within 1e-4."""
    wanted = evaluate(capture(message.SerializeToString()), dict(feeds))
    assert_same(wanted, list(compiled(message, options).program.run(dict(feeds)).values()))


def assert_same(wanted: Sequence[np.ndarray], made: Sequence[np.ndarray]) -> None:
    """Integers and bools are the same, floats within 1e-4."""
    for given, own in zip(wanted, made, strict=True):
        assert (own.dtype, own.shape) == (given.dtype, given.shape)
        if given.dtype.kind == "f":
            np.testing.assert_allclose(own, given, rtol=1e-4, atol=1e-4)
        else:
            np.testing.assert_array_equal(own, given)


class RandomModel:
    """A model of random ops on random earlier values: f32, a few small sizes, so that layouts meet in many ways."""

    def __init__(self, seed: int) -> None:
        self.random, self.numbers = random.Random(seed), np.random.default_rng(seed)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.nodes: list[NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.feeds: dict[str, np.ndarray] = {}
        for _ in range(self.random.randint(1, 3)):
            shape = self.random.choice([(1, 6, 4, 5), (2, 3, 5, 4), (2, 4, 6), (5, 6)])
            name = f"x{len(self.feeds)}"
            self.feeds[name], self.shapes[name] = self._array(*shape), shape
        ops: list[Callable[[str, tuple[int, ...]], None]] = [
            *(self._unary, self._unary, self._added, self._added, self._transposed, self._reshaped, self._sliced),
            *(self._joined, self._multiplied, self._scores, self._convolved, self._convolved, self._pooled, self._softmax),
            *(self._normalized, self._reduced, self._padded, self._split),
        ]
        for _ in range(self.random.randint(3, 14)):
            name = self.random.choice([*self.shapes, *list(self.shapes)[-3:]])
            self.random.choice(ops)(name, self.shapes[name])
        count = self.random.randint(1, 3)
        self.outputs = list(dict.fromkeys([list(self.shapes)[-1], *self.random.choices(list(self.shapes), k=count)]))

    @property
    def message(self) -> ModelProto:
        """The model."""
        return of(self.nodes, self.feeds, self.outputs, self.weights)

    def _array(self, *shape: int) -> np.ndarray:
        return self.numbers.standard_normal(shape).astype(np.float32)

    def _weight(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = array
        return name

    def _put(self, op: str, operands: Sequence[str], *shapes: tuple[int, ...], **attributes: Any) -> None:
        names = [f"v{len(self.shapes) + index}" for index in range(len(shapes))]
        self.nodes.append(node(op, list(operands), names, **attributes))
        self.shapes.update(zip(names, shapes, strict=True))

    def _unary(self, name: str, shape: tuple[int, ...]) -> None:
        self._put(self.random.choice(["Relu", "Tanh", "Sigmoid", "Neg", "Abs"]), [name], shape)

    def _added(self, name: str, shape: tuple[int, ...]) -> None:
        fitting = [each for each, other in self.shapes.items() if other == shape]
        other = self.random.choice(fitting)
        if self.random.random() < 0.5:
            kept = [size if self.random.random() < 0.5 else 1 for size in shape]
            other = self._weight(self._array(*kept[self.random.randrange(len(kept)) :]))
        self._put(self.random.choice(["Add", "Mul", "Sub", "Max"]), self.random.sample([name, other], 2), shape)

    def _transposed(self, name: str, shape: tuple[int, ...]) -> None:
        order = self.random.sample(range(len(shape)), len(shape))
        self._put("Transpose", [name], tuple(shape[axis] for axis in order), perm=order)

    def _reshaped(self, name: str, shape: tuple[int, ...]) -> None:
        if len(shape) > 2 and self.random.random() < 0.5:
            made = (shape[0] * shape[1], *shape[2:])
        else:
            made = (*shape, 1) if len(shape) < 4 else (*shape[:2], product(shape[2:]))
        self._put("Reshape", [name, self._weight(np.array(made, np.int64))], made)

    def _sliced(self, name: str, shape: tuple[int, ...]) -> None:
        axis, step = self.random.randrange(len(shape)), self.random.choice([1, 2, -1])
        start, end = (0, 100) if step > 0 else (-1, -100)
        size = len(range(shape[axis])[:: abs(step)])
        given = [self._weight(np.array([each], np.int64)) for each in (start, end, axis, step)]
        self._put("Slice", [name, *given], (*shape[:axis], size, *shape[axis + 1 :]))

    def _joined(self, name: str, shape: tuple[int, ...]) -> None:
        axis = self.random.randrange(len(shape))
        others = [each for each, other in self.shapes.items() if other == shape]
        self._put("Concat", [name, self.random.choice(others)], (*shape[:axis], 2 * shape[axis], *shape[axis + 1 :]), axis=axis)

    def _multiplied(self, name: str, shape: tuple[int, ...]) -> None:
        columns = self.random.choice([3, 6, 17])
        weight = self._weight(self._array(shape[-1], columns) / 4)
        self._put("MatMul", [name, weight], (*shape[:-1], columns))

    def _scores(self, name: str, shape: tuple[int, ...]) -> None:
        for other, theirs in self.shapes.items():
            if len(theirs) == len(shape) and theirs[-2] == shape[-1] and theirs[:-2] == shape[:-2]:
                return self._put("MatMul", [name, other], (*shape[:-1], theirs[-1]))
        return None

    def _convolved(self, name: str, shape: tuple[int, ...]) -> None:
        if len(shape) < 3:
            return
        rank, channels = len(shape) - 2, shape[1]
        groups = self.random.choice([1, channels])
        made = channels if groups > 1 else self.random.choice([2, 6, 18])
        weight = self._weight(self._array(made, channels // groups, *(3,) * rank) / 4)
        self._put("Conv", [name, weight], (shape[0], made, *shape[2:]), pads=[1] * 2 * rank, group=groups)

    def _pooled(self, name: str, shape: tuple[int, ...]) -> None:
        if len(shape) > 2:
            rank = len(shape) - 2
            how = {"kernel_shape": [3] * rank, "pads": [1] * 2 * rank}
            self._put(self.random.choice(["MaxPool", "AveragePool"]), [name], shape, **how)

    def _softmax(self, name: str, shape: tuple[int, ...]) -> None:
        self._put("Softmax", [name], shape, axis=self.random.randrange(len(shape)))

    def _normalized(self, name: str, shape: tuple[int, ...]) -> None:
        self._put("LayerNormalization", [name, self._weight(self._array(shape[-1]))], shape, epsilon=0.1)

    def _reduced(self, name: str, shape: tuple[int, ...]) -> None:
        axis = self.random.randrange(len(shape))
        given = self._weight(np.array([axis], np.int64))
        made = (*shape[:axis], 1, *shape[axis + 1 :])
        self._put(self.random.choice(["ReduceMean", "ReduceMax"]), [name, given], made, keepdims=1)

    def _padded(self, name: str, shape: tuple[int, ...]) -> None:
        pads = [0] * 2 * len(shape)
        pads[len(shape) - 1], pads[-1] = 1, 2
        mode = self.random.choice(["constant", "edge"])
        given = self._weight(np.array(pads, np.int64))
        self._put("Pad", [name, given], (*shape[:-1], shape[-1] + 3), mode=mode)

    def _split(self, name: str, shape: tuple[int, ...]) -> None:
        axis = self.random.randrange(len(shape))
        if shape[axis] > 1:
            sizes = [1, shape[axis] - 1]
            parts = [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]
            self._put("Split", [name, self._weight(np.array(sizes, np.int64))], *parts, axis=axis)
