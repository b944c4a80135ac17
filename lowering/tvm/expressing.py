# pyright: basic
"""A model of one op as TVM itself expresses it: calls of kernels on numbered slots of memory.

Law: a pure function of the model and of TVM's version; what comes out is plain data that goes through JSON.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx

from .adapter import part, said, whole
from .nests import nests_of, scheduled

Expressed = dict[str, Any]


Schedule = Callable[[str, Any], Any]
"""From the name of a function of tensors and the function to one whose loops are ordered."""


def by_default(name: str, function: Any) -> Any:
    """The order that serves any CPU."""
    return scheduled(function)


def express(model: bytes, schedule: Schedule = by_default) -> Expressed:
    """What computes the outputs of an ONNX model: `slots`, `constants` by slot, `inputs`, `outputs`, `kernels` and `calls`.

    A call is the number of a kernel and those of slots, of which it writes the last. Raises ValueError, with a clause, where
    TVM cannot express the model without its run time.
    """
    try:
        return _Program(_module(model), schedule).expressed()
    except ValueError:
        raise
    except Exception as error:  # TVM's errors have no common base but Exception
        raise ValueError(said(error)) from error


def functions_of(model: bytes) -> dict[str, Any]:
    """The functions of tensors that a model is computed by, by their names."""
    tirx, module = whole().tirx, _module(model)
    return {name.name_hint: each for name, each in module.functions.items() if isinstance(each, tirx.PrimFunc)}


def _module(model: bytes) -> Any:
    message = onnx.ModelProto()
    message.ParseFromString(model)
    return _passes()(part("relax.frontend.onnx").from_onnx(message))


class _Program:
    """A program of Relax's on its way to slots and calls."""

    def __init__(self, module: Any, schedule: Schedule) -> None:
        self.module, self.schedule = module, schedule
        self.slots: list[dict[str, Any]] = []
        self.constants: dict[str, str] = {}
        self.kernels: list[dict[str, Any]] = []
        self.calls: list[list[Any]] = []
        self.values: list[tuple[Any, Any]] = []

    def expressed(self) -> Expressed:
        """The whole program."""
        relax, main = part("relax"), self.module["main"]
        inputs = [self._input(each) for each in main.params]
        for block in main.body.blocks:
            for binding in block.bindings:
                if not isinstance(binding, relax.VarBinding):
                    raise ValueError("TVM asks for shapes at run time")
                self.values.append((binding.var, self._value(binding.value)))
        outputs = self._value(main.body.body)
        return {
            "slots": self.slots,
            "constants": self.constants,
            "inputs": inputs,
            "outputs": outputs if isinstance(outputs, list) else [outputs],
            "kernels": self.kernels,
            "calls": self.calls,
        }

    def _input(self, parameter: Any) -> int:
        kind = parameter.ty
        slot = self._slot(str(kind.dtype), int(np.prod([int(size) for size in kind.shape], dtype=np.int64)))
        self.values.append((parameter, slot))
        return slot

    def _slot(self, kind: str, size: int) -> int:
        self.slots.append({"kind": kind, "size": size})
        return len(self.slots) - 1

    def _value(self, value: Any) -> Any:
        """The slot of a value, or a list of those of a tuple."""
        relax = part("relax")
        known = next((slot for each, slot in self.values if each.same_as(value)), None)
        if known is not None:
            return known
        if isinstance(value, relax.Tuple):
            return [self._value(each) for each in value.fields]
        if isinstance(value, relax.TupleGetItem):
            return self._value(value.tuple_value)[int(value.index)]
        if isinstance(value, whole().ir.GenericConst):
            return self._constant(value.value.numpy())
        if isinstance(value, relax.Call) and str(getattr(value.op, "name", "")) == "relax.call_tir" and len(value.args) == 2:
            return self._call(value)
        raise ValueError(f"TVM leaves {getattr(getattr(value, 'op', None), 'name', 'a part of it')} to its run time")

    def _constant(self, content: np.ndarray) -> int:
        slot = self._slot(content.dtype.name, content.size)
        self.constants[str(slot)] = base64.b64encode(np.ascontiguousarray(content).tobytes()).decode()
        return slot

    def _call(self, call: Any) -> Any:
        """The kernels of a function, called one after the other; the slots of its results."""
        name, given = call.args
        function = nests_of(self.module[name], lambda function: self.schedule(str(name.name_hint), function))
        operands = [self._value(each) for each in given.fields]
        made = [self._slot(each.kind, each.size) for each in function.parameters[len(operands) :]]
        slots, own = [*operands, *made], [self._slot(each.kind, each.size) for each in function.own]
        for nest in function.nests:
            self.kernels.append({"source": nest.source, "tasks": nest.tasks})
            places = [slots[number] if number >= 0 else own[-1 - number] for number in nest.buffers]
            self.calls.append([len(self.kernels) - 1, *places])
        return made[0] if len(made) == 1 else made


@cache
def _passes() -> Any:
    """From ops to functions of tensors, several that only move and map elements in one."""
    transform = part("relax").transform
    return whole().ir.transform.Sequential(
        [
            transform.DecomposeOpsForInference(),
            transform.LegalizeOps(),
            transform.FoldConstant(),
            transform.AnnotateTIROpPattern(),
            transform.FuseOps(),
            transform.FuseTIR(),
            transform.DeadCodeElimination(),
        ]
    )
