"""What a program may be fed: checked in a microsecond when it fits, explained in one sentence when it does not.

A feed that passes has exactly the names, element types, ranks and fixed dims of the signature, and its symbolic dims
agree; the engine sees nothing else. Nothing is converted where that could change a value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np

from .convert import from_dlpack, from_python, from_strings
from .dtypes import ELEMENT_TYPES, dtype_text
from .errors import FeedError, closest
from .manifest import SignatureEntry

Array: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"
Feeds: TypeAlias = Mapping[str, object]
"""What a caller feeds, by name: arrays, anything with `__dlpack__`, Python numbers and lists, None for an optional."""

_Plan: TypeAlias = "tuple[str, np.dtype[np.generic], int, tuple[int, ...] | None, tuple[tuple[int, int], ...]]"


class FeedChecker:
    """Checks feeds against a signature; all that can be worked out ahead is worked out here."""

    def __init__(self, inputs: Sequence[SignatureEntry], dims_must_agree: Sequence[str] = ()) -> None:
        self._inputs = {each.name: each for each in inputs}
        required = [each for each in inputs if not each.optional]
        plain = all(each.kind == "tensor" and each.dtype != "str" and each.shape is not None for each in required)
        self._plans = tuple(_plan(each) for each in required) if plain else None
        self._count = len(required)
        self._required = frozenset(each.name for each in required)
        places = {dim: _places(dim, inputs) for dim in dims_must_agree}
        self._agreeing = {dim: where for dim, where in places.items() if len(where) > 1}

    def check(self, feeds: Feeds) -> dict[str, object]:
        """The feeds in the form the engine takes, arrays not copied; raises FeedError for what does not fit."""
        given: Mapping[str, Any] = feeds
        if self._plans is None or given.__class__ is not dict or len(given) != self._count:
            return self._check_slowly(feeds)
        for name, dtype, rank, exact, fixed in self._plans:
            array: Any = given.get(name, self)
            if array.__class__ is not np.ndarray or array.dtype is not dtype:
                return self._check_slowly(feeds)
            shape = array.shape
            if exact is not None:
                if shape != exact:
                    return self._check_slowly(feeds)
                continue
            if len(shape) != rank:
                return self._check_slowly(feeds)
            for axis, size in fixed:
                if shape[axis] != size:
                    return self._check_slowly(feeds)
        if self._agreeing:
            self._check_agreement(feeds)
        return feeds  # type: ignore[return-value]

    def _check_slowly(self, feeds: Feeds) -> dict[str, object]:
        """What `check` does, for everything that is not simply the right arrays."""
        if not isinstance(feeds, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise FeedError(f"the feeds are {_kind(feeds)}", hint="feed a dict from input names to arrays")
        for name in feeds:
            if name not in self._inputs:
                hint = closest(str(name), self._inputs) or f"its inputs are {', '.join(self._inputs) or 'none'}"
                raise FeedError(f"the program has no input {name}", hint=hint)
        for name, entry in self._inputs.items():
            if name in self._required and name not in feeds and entry.kind != "optional":
                raise FeedError(f"input {name} is missing", hint=f"feed {entry}")
        result = {name: _value(self._inputs[name], value) for name, value in feeds.items()}
        self._check_agreement(result)
        return result

    def _check_agreement(self, feeds: Feeds) -> None:
        for dim, places in self._agreeing.items():
            fed = [(name, cast("Array", feeds[name]).shape[axis]) for name, axis in places if name in feeds]
            for name, size in fed[1:]:
                if size != fed[0][1]:
                    reason = f"dim {dim} is {fed[0][1]} in {fed[0][0]} but {size} in {name}"
                    raise FeedError(
                        reason,
                        hint="the model gives both one name; if they differ on purpose, name them apart or compile with -O0",
                    )


def _plan(entry: SignatureEntry) -> _Plan:
    shape = entry.shape or ()
    fixed = tuple((axis, dim) for axis, dim in enumerate(shape) if isinstance(dim, int))
    exact = tuple(size for _, size in fixed) if len(fixed) == len(shape) else None
    return entry.name, ELEMENT_TYPES[entry.dtype].numpy, len(shape), exact, fixed


def _places(dim: str, inputs: Sequence[SignatureEntry]) -> list[tuple[str, int]]:
    tensors = [each for each in inputs if each.kind == "tensor"]
    return [(each.name, axis) for each in tensors for axis, text in enumerate(each.shape or ()) if text == dim]


def _value(entry: SignatureEntry, value: object) -> object:
    """A value as the engine takes it."""
    if entry.kind == "map":
        if isinstance(value, Mapping):
            return dict(cast("Mapping[object, object]", value))
        raise FeedError(f"input {entry.name} is {_kind(value)}, but the model wants a map", hint="feed a dict")
    if entry.kind == "optional":
        if value is None:
            return None
        return _items(entry, cast("list[object]", value)) if isinstance(value, list) else _tensor(entry, value)
    if entry.kind == "sequence":
        if isinstance(value, list | tuple):
            return _items(entry, cast("Sequence[object]", value))
        reason = f"input {entry.name} is {_kind(value)}, but the model wants a sequence of tensors"
        raise FeedError(reason, hint="feed a list of arrays")
    return _tensor(entry, value)


def _items(entry: SignatureEntry, values: Sequence[object]) -> list[Array]:
    return [_tensor(entry, each, f"{entry.name}[{index}]") for index, each in enumerate(values)]


def _tensor(entry: SignatureEntry, value: object, name: str | None = None) -> Array:
    """A value as an array of the entry's element type and shape; raises FeedError where it is none."""
    name = name or entry.name
    wanted = ELEMENT_TYPES[entry.dtype]
    if isinstance(value, np.ndarray):
        # a subclass (a matrix, a masked array) is not what the engine takes
        array = cast("Array", np.asarray(cast("Array", value)))
        if isinstance(value, np.ma.MaskedArray):
            raise FeedError(f"input {name} is a masked array", hint="fill it with .filled(value)")
    elif not isinstance(value, np.generic) and hasattr(value, "__dlpack__"):
        array = from_dlpack(value, name)
    elif isinstance(value, str | bytes | bool | int | float | complex | list | tuple | np.generic):
        array = from_python(cast("object", value), wanted, name, str(entry))
    else:
        hint = "feed a NumPy array, or anything with __dlpack__"
        raise FeedError(f"input {name} is {_kind(value)}, which is no array", hint=hint)
    if entry.dtype == "str":
        array = from_strings(array, name)
    if array.dtype != wanted.numpy:
        given = dtype_text(array.dtype)
        reason = f"input {name} has element type {given}, but the model wants {entry.dtype}"
        raise FeedError(reason, hint=f"convert it with .astype({wanted.numpy_name})")
    _check_shape(entry, array, name)
    return array


def _check_shape(entry: SignatureEntry, array: Array, name: str) -> None:
    if entry.shape is None:
        return
    given, wanted = list(array.shape), str(entry).removeprefix(f"{entry.name}: ")
    if len(given) != len(entry.shape):
        reason = f"input {name} has rank {len(given)} (shape {given}), but the model wants rank {len(entry.shape)}"
        raise FeedError(reason, hint=f"it is {wanted}; see numpy.expand_dims and .reshape")
    for axis, (size, dim) in enumerate(zip(given, entry.shape, strict=True)):
        if isinstance(dim, int) and size != dim:
            reason = f"input {name} has {size} in dim {axis} (shape {given}), but the model wants {dim}"
            raise FeedError(reason, hint=f"it is {wanted}")


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
