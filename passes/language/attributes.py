"""Attributes as plain values, with the defaults that their schemas give them."""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import numpy as np

from irc.ir import Attribute, EmptyList, Op, schema


def as_list(thing: object) -> tuple[object, ...] | None:
    """A list of the language, or None for anything else."""
    return cast("tuple[object, ...]", thing) if isinstance(thing, tuple) else None


def attribute_of(op: Op, name: str) -> object:
    """An attribute as a plain value (text, number, tuple, tensor), its schema default where absent, else None."""
    value = op.attributes.get(name)
    return plain(value) if value is not None else _default(op.domain, op.name, name)


def plain(value: Attribute | None) -> object:
    """An attribute without ONNX's wrapping."""
    if isinstance(value, EmptyList):
        return ()
    return value.decode(errors="replace") if isinstance(value, bytes) else value


@lru_cache(maxsize=4096)
def _default(domain: str, name: str, attribute: str) -> object:
    version = schema.CANONICAL_OPSET if not domain else schema.NEWEST_KNOWN.get(domain)
    return None if version is None else schema.attribute_default(domain, name, version, attribute)


def is_default(op: Op, name: str) -> bool:
    """Whether an attribute that is given says what its absence would say."""
    default = _default(op.domain, op.name, name)
    return default is not None and equal_attributes(plain(op.attributes[name]), default)


def equal_attributes(actual: object, wanted: object) -> bool:
    """Equality of attributes; floats are stored in single precision."""
    if isinstance(actual, float) and isinstance(wanted, (int, float)):
        return actual == wanted or bool(np.float32(actual) == np.float32(wanted))
    first, second = as_list(actual), as_list(wanted)
    if first is not None and second is not None:
        return len(first) == len(second) and all(map(equal_attributes, first, second))
    return type(actual) is type(wanted) and bool(actual == wanted)
