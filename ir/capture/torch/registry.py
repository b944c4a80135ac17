"""The translations users register, by the name torch gives the op; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from ...diagnostics import UsageError

Translation = Callable[..., Any]
_Function = TypeVar("_Function", bound=Translation)

TRANSLATIONS: dict[str, Translation] = {}
"""What `translate` has registered: `mylib::twice` or `aten::add.Tensor` to the function that writes the op in ONNX."""


@overload
def translate(op: object) -> Callable[[_Function], _Function]: ...
@overload
def translate(op: object, function: _Function) -> _Function: ...
def translate(op: object, function: Translation | None = None) -> Any:
    """Say how an op of torch is written in ONNX; also a decorator.

    `op` is a name (`mylib::twice`, `aten::add.Tensor`) or an `OpOverload`. `function` takes the op's arguments: tensors as
    symbolic values, everything else as Python values. It is an onnxscript function, or a plain callable that calls
    onnxscript's ops; an op with several results returns a tuple. A function registered for an op that irc knows is used
    instead of irc's own. Raises UsageError for what names no op.

        @irc.torch.translate("mylib::twice")
        def twice(x, factor=2.0):
            return op.Mul(x, op.CastLike(op.Constant(value_float=factor), x))    # from onnxscript import opset18 as op
    """
    name = _name_of(op)

    def register(function: _Function) -> _Function:
        TRANSLATIONS[name] = function
        return function

    return register if function is None else register(function)


def _name_of(op: object) -> str:
    if isinstance(op, str):
        namespace, separator, name = op.removesuffix(".default").partition("::")
        if separator and namespace and name:
            return f"{namespace}::{name}"
        raise UsageError(f"{op!r} names no op of torch", hint="write it as namespace::name, or namespace::name.overload")
    own = getattr(op, "name", None)  # of an OpOverload; a packet of overloads has none
    if callable(own):
        return str(own())
    raise UsageError(f"{op!r} is no op of torch", hint="give an OpOverload, such as torch.ops.mylib.twice.default, or its name")
