"""Turning what is no NumPy array into one, without changing a value: DLPack, Python numbers and lists, strings."""

from __future__ import annotations

import warnings
from typing import Any, TypeAlias, cast

import numpy as np

from .dtypes import ElementType
from .errors import FeedError

Array: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"


def from_dlpack(value: object, name: str) -> Array:
    """A view of the tensor's own memory; raises FeedError where it is not on the CPU or NumPy lacks its type."""
    try:
        return cast("Array", np.from_dlpack(cast("Any", value)))
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        reason = f"input {name} cannot be taken over DLPack from a {type(value).__name__}"
        hint = f"bring it to the CPU as a NumPy array; it says: {_first_line(error)}"
        raise FeedError(reason, hint=hint) from error


def from_python(value: object, wanted: ElementType, name: str, signature: str) -> Array:
    """Python numbers and nested lists of them as an array of the wanted type.

    A float may be rounded to a narrower float; everything else has to fit exactly. Raises FeedError otherwise.
    """
    try:
        natural = cast("Array", np.asarray(value))
    except ValueError as error:
        reason = f"input {name} is a list whose parts differ in length"
        raise FeedError(reason, hint=f"feed an array that fits {signature}") from error
    if wanted.text == "str" or natural.dtype == wanted.numpy:
        return natural
    if natural.dtype.kind not in "biufc":
        reason = f"input {name} holds {natural.dtype.name} values, but the model wants {wanted.text}"
        raise FeedError(reason, hint=f"feed an array that fits {signature}")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        array = natural.astype(wanted.numpy)
        same = _same(natural, array, wanted)
    if natural.size and not same:
        reason = f"input {name} has values that {wanted.text} cannot hold"
        raise FeedError(reason, hint=f"feed an array that fits {signature}")
    return array


def from_strings(array: Array, name: str) -> Array:
    """An array of Python strings; raises FeedError where something else is among them."""
    if array.dtype.kind == "U":
        return array.astype(object)
    if array.dtype.kind == "O" and all(isinstance(each, str) for each in array.flat):
        return array
    raise FeedError(f"input {name} has to hold strings", hint="feed an array of str, as in numpy.array([...], object)")


def _same(natural: Array, array: Array, wanted: ElementType) -> bool:
    """Whether the conversion kept every value, a float's rounding to a float apart."""
    if (natural.dtype.kind == "b") != (wanted.text == "bool"):
        return False
    if natural.dtype.kind == "f" and wanted.text[0] in "bf":
        return bool(np.array_equal(np.isfinite(natural), np.isfinite(array.astype(np.float64))))
    return bool(np.array_equal(array.astype(natural.dtype), natural))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
