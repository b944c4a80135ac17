"""How a captured program is called: torch tensors become named arrays, and arrays the structure the module returns.

Law: on a CPU nothing is copied that lies in order; what was constant when the program was captured is put back, and must
be the same in every call. All that can be looked up is looked up when the convention is made.
"""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch.export._tree_utils import reorder_kwargs

from ...diagnostics import UsageError
from .trees import TreeSpec, builder, flatten, taker

Array = np.ndarray[Any, Any]

_BY_WIDTH = {1: torch.uint8, 2: torch.uint16}
# What numpy has no type of its own for: the type ml_dtypes gives it, of the same bytes.
_BORROWED: dict[torch.dtype, np.dtype[Any]] = {
    torch.bfloat16: np.dtype(ml_dtypes.bfloat16),
    torch.float8_e4m3fn: np.dtype(ml_dtypes.float8_e4m3fn),
    torch.float8_e4m3fnuz: np.dtype(ml_dtypes.float8_e4m3fnuz),
    torch.float8_e5m2: np.dtype(ml_dtypes.float8_e5m2),
    torch.float8_e5m2fnuz: np.dtype(ml_dtypes.float8_e5m2fnuz),
}
_LENDERS = {borrowed: dtype for dtype, borrowed in _BORROWED.items()}


@dataclass(frozen=True, slots=True)
class Fed:
    """An input leaf that is a graph input; `written` is the output that holds what the program made of it in place."""

    name: str
    dtype: torch.dtype
    written: int | None = None


@dataclass(frozen=True, slots=True)
class Fixed:
    """A leaf that is no tensor: an input that must equal `value`, or an output that always is it."""

    value: Any
    name: str = ""


@dataclass(frozen=True, slots=True)
class Returned:
    """An output leaf that is graph output `index`; a `number` comes out as a Python number."""

    index: int
    number: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """A tensor of the module that the program changes: graph input `name` is its value before, output `index` after."""

    name: str
    index: int
    initial: Array


@dataclass(eq=False)
class CallingConvention:
    """How to call the program of a captured module: `call(run, args, kwargs)` is `module(*args, **kwargs)`.

    The graph's inputs are the `Fed` leaves in order, then the state; its outputs are those the leaves return, then what
    became of the state and of inputs written in place. The state starts as what the module held when it was captured and
    then belongs to the convention: each call reads it and leaves the new one; the module's own tensors are never written.
    """

    inputs: tuple[Fed | Fixed, ...]
    outputs: tuple[Returned | Fixed, ...]
    state: tuple[Kept, ...]
    input_spec: TreeSpec
    output_spec: TreeSpec
    _held: dict[str, Array] = field(init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        self._fed = tuple(leaf for leaf in self.inputs if isinstance(leaf, Fed))
        self._names = tuple(leaf.name for leaf in self._fed)
        self._dtypes = tuple(leaf.dtype for leaf in self._fed)
        self._written = tuple((i, leaf.written) for i, leaf in enumerate(self._fed) if leaf.written is not None)
        self._plain = not any(leaf.dtype in _BORROWED for leaf in self._fed)
        self._flat = self._keywords_when_flat()
        self._take_args, self._take_kwargs = (taker(each) for each in self.input_spec.children())
        self._places = tuple(place for place, leaf in enumerate(self.inputs) if isinstance(leaf, Fed))
        self._fixed = tuple((place, leaf.value) for place, leaf in enumerate(self.inputs) if isinstance(leaf, Fixed))
        self._build = builder(self.output_spec)
        first = self.outputs[0] if len(self.outputs) == 1 and self.output_spec.is_leaf() else None
        self._single = first.index if isinstance(first, Returned) and not first.number else None
        self.reset()

    def reset(self) -> None:
        """Set the state to what the module held when it was captured."""
        self._held = {kept.name: kept.initial for kept in self.state}

    @property
    def has_state(self) -> bool:
        """Whether a call changes what later calls return."""
        return bool(self.state)

    def call(self, run: Callable[[dict[str, Any]], Sequence[Any]], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """What the module returns for these inputs, by `run`: from named arrays to the outputs in the graph's order.

        Calls of a program with state take turns. Raises UsageError as `to_feeds` does.
        """
        tensors = self._leaves(args, kwargs)
        feeds = self._feeds(tensors)
        if not self.state:
            outputs = run(feeds)
        else:
            with self._lock:
                outputs = run(feeds | self._held)
                self._held = {kept.name: outputs[kept.index] for kept in self.state}
        for position, index in self._written:
            tensors[position].detach().copy_(_tensor(outputs[index]))
        return self.to_result(outputs)

    def to_feeds(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> dict[str, Array]:
        """The arrays that `args` and `kwargs` are, by input name; views of CPU tensors that lie in order. No state.

        Raises UsageError for another structure than the program was captured with, another dtype, another value of what
        was constant, and tensors that are not on the CPU.
        """
        return self._feeds(self._leaves(args, kwargs or {}))

    def to_result(self, outputs: Sequence[Any]) -> Any:
        """What the module would return, from the graph's outputs in order; tensors share memory with the arrays."""
        if self._single is not None:
            return _tensor(outputs[self._single])
        leaves = [leaf.value if isinstance(leaf, Fixed) else _leaf(outputs[leaf.index], leaf.number) for leaf in self.outputs]
        return self._build(iter(leaves))

    def _keywords_when_flat(self) -> tuple[int, tuple[str, ...]] | None:
        """Positional count and keywords where all inputs are tensors and none is nested, which needs no tree."""
        args, kwargs = self.input_spec.children()
        if len(self._fed) != len(self.inputs) or not all(each.is_leaf() for each in (*args.children(), *kwargs.children())):
            return None
        return args.num_children, tuple(kwargs.context or ())

    def _leaves(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[Any]:
        """The tensors among the leaves, in order."""
        if self._flat is not None:
            count, keywords = self._flat
            if len(args) == count and len(kwargs) == len(keywords):
                try:
                    return (*args, *(kwargs[keyword] for keyword in keywords)) if keywords else args
                except KeyError:
                    pass  # the general way says what is wrong
        return self._plain_leaves(args, kwargs) or self._nested_leaves(args, kwargs)

    def _plain_leaves(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any] | None:
        """The tensors among the leaves of dicts, lists and tuples; None where there is more to it."""
        leaves: list[Any] = []
        if not (self._take_args(args, leaves) and self._take_kwargs(kwargs, leaves)):
            return None
        for place, value in self._fixed:
            leaf = leaves[place]
            if type(leaf) is not type(value) or leaf != value:
                return None
        return [leaves[place] for place in self._places] if self._fixed else leaves

    def _nested_leaves(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        arguments = (tuple(args), dict(kwargs))
        expected = set(self.input_spec.child(1).context or ())
        if set(kwargs) == expected:
            arguments = (arguments[0], reorder_kwargs(arguments[1], self.input_spec))
        leaves, spec = flatten(arguments)
        if spec != self.input_spec:
            raise UsageError(
                f"the inputs have the structure {_shown(spec)}, but the program was captured with {_shown(self.input_spec)}",
                hint="pass the same arguments in the same way, or compile again with these",
            )
        tensors: list[Any] = []
        for leaf, slot in zip(leaves, self.inputs, strict=True):
            if isinstance(slot, Fed):
                tensors.append(leaf)
            elif isinstance(leaf, torch.Tensor) or type(leaf) is not type(slot.value) or leaf != slot.value:
                raise UsageError(
                    f"'{slot.name}' is {leaf!r}, but the program was captured with {slot.value!r}, which is part of it",
                    hint="compile again for another value",
                )
        return tensors

    def _feeds(self, tensors: Sequence[Any]) -> dict[str, Array]:
        feeds: dict[str, Array] = {}
        for name, dtype, tensor in zip(self._names, self._dtypes, tensors, strict=True):
            if not isinstance(tensor, torch.Tensor) or tensor.dtype is not dtype or not tensor.is_cpu:
                raise _refused(name, dtype, tensor)
            if not tensor.is_contiguous():
                tensor = tensor.contiguous()
            if tensor.requires_grad:
                tensor = tensor.detach()
            feeds[name] = tensor.numpy() if self._plain else to_array(tensor)
        return feeds


def to_array(tensor: torch.Tensor) -> Array:
    """A CPU tensor as an array of the same memory; bf16 and 8-bit floats as the types of ml_dtypes."""
    borrowed = _BORROWED.get(tensor.dtype)
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if borrowed is None:
        return tensor.numpy()
    return tensor.view(_BY_WIDTH[tensor.element_size()]).numpy().view(borrowed)


def _tensor(array: Any) -> torch.Tensor:
    if not isinstance(array, np.ndarray):
        array = np.asarray(array)
    lender = _LENDERS.get(array.dtype)
    if lender is None:
        return torch.from_numpy(array)
    return torch.from_numpy(array.view(np.uint16 if array.dtype.itemsize == 2 else np.uint8)).view(lender)


def _leaf(array: Any, number: bool) -> Any:
    return np.asarray(array).item() if number else _tensor(array)


def _refused(name: str, dtype: torch.dtype, tensor: Any) -> UsageError:
    if not isinstance(tensor, torch.Tensor):
        return UsageError(f"input '{name}' is {type(tensor).__name__} and not a tensor")
    if tensor.dtype is not dtype:
        hint = f"convert it with .to({dtype})"
        return UsageError(f"input '{name}' is {_text(tensor.dtype)}, but the program takes {_text(dtype)}", hint=hint)
    return UsageError(f"input '{name}' is on {tensor.device}, but the program takes CPU tensors", hint="call .cpu() first")


def _text(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _shown(spec: TreeSpec) -> str:
    """The structure of `(args, kwargs)` as a call is written, with `_` for each leaf."""

    def show(node: TreeSpec) -> str:
        if node.is_leaf():
            return "_"
        inner = [show(child) for child in node.children()]
        if node.type is dict:
            return "{" + ", ".join(f"{key}: {each}" for key, each in zip(node.context, inner, strict=True)) + "}"
        if node.type is list:
            return "[" + ", ".join(inner) + "]"
        name = "" if node.type is tuple else node.type.__name__
        return f"{name}({', '.join(inner)})"

    args, kwargs = spec.children()
    keywords = [f"{key}={show(child)}" for key, child in zip(kwargs.context or (), kwargs.children(), strict=True)]
    return f"({', '.join([*map(show, args.children()), *keywords])})"
