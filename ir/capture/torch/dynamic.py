"""Dynamic dims: what the user asked for leaf by leaf, what torch.export made of it, and the names it lost on the way.

torch.export calls every dynamic size `s<n>`; here the sizes get back the names of their Dims, and where the user gave none,
a name after the input (`x_dim0`), so that the same program always has the same dims.
"""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.export import Dim
from torch.export import dynamic_shapes as shapes
from torch.utils import _pytree as pytree

from ... import dims
from ...diagnostics import UsageError

LeafDims = dict[int, Any] | None
"""The dynamic dims of one tensor: by position a Dim, a hint such as `Dim.AUTO`, or an int for a fixed size."""

_NESTED = "write dynamic_shapes as the inputs are nested, with a tuple for any container that is no dict"

LARGEST_SIZE = sys.maxsize // 2  # what torch.export says for "no bound" is this large or infinite


def leaf_dims(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], asked: Any) -> list[LeafDims]:
    """What was asked for each leaf of `(args, kwargs)`, in order.

    Raises UsageError where `asked` is not nested as the inputs are.
    """
    found: list[LeafDims] = [None] * len(pytree.tree_leaves((args, kwargs)))
    if asked is None:
        return found
    if isinstance(asked, (shapes.ShapesCollection, shapes.AdditionalInputs)):
        asked = asked.dynamic_shapes(module, args, kwargs)
    if not isinstance(asked, (Mapping, list, tuple)):
        raise UsageError(f"dynamic_shapes is {asked!r}", hint=_NESTED)
    given = shapes._combine_args(module, args, kwargs)
    # The same call with the number of each argument's first leaf in its place.
    starts = _first_leaves([*args, *kwargs.values()])
    places = shapes._combine_args(module, starts[: len(args)], dict(zip(kwargs, starts[len(args) :], strict=True)))
    assigned = dict(asked) if isinstance(asked, Mapping) else dict(zip(given, asked, strict=False))
    surplus = [key for key in assigned if key not in given]
    if surplus or (not isinstance(asked, Mapping) and len(asked) > len(given)):
        named = repr(surplus[0]) if surplus else f"entry {len(given)}"
        raise UsageError(f"dynamic_shapes speaks of {named}, which is no input", hint=f"the inputs are {', '.join(given)}")
    known: dict[str, Dim] = {}
    for key, spec in assigned.items():
        where = f"dynamic_shapes[{key!r}]"
        for place, entries, at in _placed(given[key], places[key], spec, where):
            found[place] = _entries(entries, known, at)
    return found


def _first_leaves(values: Sequence[Any]) -> list[int]:
    starts, total = [], 0
    for value in values:
        starts.append(total)
        total += len(pytree.tree_leaves(value))
    return starts


def _placed(value: Any, start: Any, spec: Any, where: str) -> Iterator[tuple[int, Any, str]]:
    """The number of each leaf that something was asked for, what that is, and where it stands."""
    if not isinstance(start, int):  # what `*args` or `**kwargs` takes: several arguments under one name
        keys = list(start) if isinstance(start, Mapping) else range(len(start))
        specs = spec if isinstance(spec, Mapping) else dict(enumerate(spec or ()))
        for key in keys:
            yield from _placed(value[key], start[key], specs.get(key), f"{where}[{key!r}]")
        return
    place = start
    for leaves, entries, at in _assigned(value, spec, where):
        if entries is not None:
            yield place, entries, at
        place += leaves


def _assigned(value: Any, spec: Any, where: str) -> Iterator[tuple[int, Any, str]]:
    """What was asked for each leaf of an input, and where that stands; for several leaves that nothing was asked for, None."""
    kind = pytree._get_node_type(value)
    if spec is None or kind not in pytree.SUPPORTED_NODES:
        yield len(pytree.tree_leaves(value)), spec if isinstance(value, torch.Tensor) else None, where
        return
    children, keys = pytree.SUPPORTED_NODES[kind].flatten_fn(value)
    if isinstance(value, Mapping) and isinstance(spec, Mapping):
        if surplus := [key for key in spec if key not in value]:
            raise UsageError(f"{where} speaks of {surplus[0]!r}, which is not among its keys {list(value)}")
        parts = [(key, spec.get(key)) for key in keys]
    elif type(spec) is type(value):
        parts = list(enumerate(pytree.SUPPORTED_NODES[kind].flatten_fn(spec)[0]))
    elif isinstance(spec, (list, tuple)) and not isinstance(value, Mapping):
        parts = list(enumerate(spec))
    else:
        raise UsageError(f"{where} is a {type(spec).__name__}, but the input there is a {kind.__name__}", hint=_NESTED)
    if len(parts) != len(children):
        raise UsageError(f"{where} has {len(parts)} entries, but the input there has {len(children)}", hint=_NESTED)
    for (key, inner), child in zip(parts, children, strict=True):
        yield from _assigned(child, inner, f"{where}[{key!r}]")


def _entries(spec: Any, known: dict[str, Dim], where: str) -> LeafDims:
    """The dims of one tensor, given by position in a dict or in order; a name stands for the Dim so called."""
    if spec is None:
        return None
    if isinstance(spec, Mapping):
        entries = dict(spec)
    elif isinstance(spec, (list, tuple)):
        entries = dict(enumerate(spec))
    else:
        raise UsageError(f"{where} is {spec!r}", hint='write the dims of a tensor as {0: "batch"}')
    made: dict[int, Any] = {}
    for axis, entry in entries.items():
        if not isinstance(axis, int):
            raise UsageError(f"{where} has {axis!r} where the number of a dim belongs", hint='write {0: "batch"}')
        if isinstance(entry, str):
            if not entry.isidentifier():
                raise UsageError(f"{where}: {entry!r} cannot name a dim", hint="a name has letters, digits and _ only")
            entry = known.setdefault(entry, Dim(entry))
        if entry is None:
            continue
        if not isinstance(entry, (int, Dim, shapes._DimHint)):
            raise UsageError(f"{where} has {entry!r} for dim {axis}", hint="a dim is a name, a torch.export.Dim or a number")
        made[axis] = entry
    return made or None


def is_dynamic(entry: Any) -> bool:
    """Whether an entry asks for a dim that may change."""
    if isinstance(entry, shapes._DimHint):
        return entry.type is not shapes._DimHintType.STATIC
    return isinstance(entry, Dim) and not isinstance(entry, shapes._StaticDim)


def symbol_names(sizes: Sequence[Sequence[Any]], asked: Sequence[LeafDims], inputs: Sequence[str]) -> dict[str, str]:
    """How each symbol of the trace is called: by its Dim (`past`, `past + 2`), else by the input and the dim that carry it.

    `sizes` are the shapes of the traced inputs, with SymInts; `asked` and `inputs` go with them.
    """
    names: dict[str, str] = {}
    for shape, entries in zip(sizes, asked, strict=True):
        for axis, entry in (entries or {}).items():
            symbols = _symbols(shape[axis])
            if isinstance(entry, Dim) and len(symbols) == 1:
                # A derived dim that torch made a symbol of its own is still what the user derived it as.
                own = str(shape[axis]) == symbols[0] or not isinstance(entry, shapes._DerivedDim)
                named = entry if own else getattr(entry, "root", entry)
                if names.get(symbols[0], "").isidentifier() < named.__name__.isidentifier() or symbols[0] not in names:
                    names[symbols[0]] = named.__name__
    taken = set(names.values())
    for plain in (True, False):
        for shape, name in zip(sizes, inputs, strict=True):
            for axis, size in enumerate(shape):
                for symbol in _symbols(size):
                    if symbol not in names and plain == (str(size) == symbol):
                        names[symbol] = _free(re.sub(r"\W", "_", f"{name}_dim{axis}"), taken)
    return names


def _free(name: str, taken: set[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        candidate, count = f"{name}_{count}", count + 1
    taken.add(candidate)
    return candidate


def _symbols(size: Any) -> list[str]:
    return [] if isinstance(size, int) else sorted(str(symbol) for symbol in size.node.expr.free_symbols)


def fixed_notes(
    sizes: Sequence[Sequence[Any]], asked: Sequence[LeafDims], inputs: Sequence[str], names: Mapping[str, str]
) -> Iterator[str]:
    """A sentence for each dim that was to be dynamic and is not, or that shares its size with one of another name."""
    for shape, entries, name in zip(sizes, asked, inputs, strict=True):
        for axis, entry in (entries or {}).items():
            if not is_dynamic(entry):
                continue
            called = f" ({entry.__name__})" if isinstance(entry, Dim) else ""
            symbols = _symbols(shape[axis])
            if not symbols:
                yield f"dim {axis} of '{name}'{called} was to be dynamic, but the program only works for {int(shape[axis])}"
            elif isinstance(entry, Dim) and not isinstance(entry, shapes._DerivedDim):
                actual = str(spelled(str(shape[axis].node.expr), names))
                if actual != entry.__name__:
                    yield f"dim {axis} of '{name}'{called} must be {actual}"


def size_ranges(program: Any, names: Mapping[str, str]) -> dict[str, tuple[int, int | None]]:
    """The sizes each named dim may have."""
    ranges: dict[str, tuple[int, int | None]] = {}
    for symbol, bounds in program.range_constraints.items():
        name = names.get(str(symbol), "")
        if name.isidentifier():
            ranges[name] = _range(bounds.lower, bounds.upper)
    return ranges


def asked_ranges(asked: Sequence[LeafDims]) -> dict[str, tuple[int, int | None]]:
    """The sizes that were asked for, by the name of the Dim."""
    dims = [entry for leaf in asked for entry in (leaf or {}).values() if isinstance(entry, Dim) and is_dynamic(entry)]
    return {entry.__name__: _range(entry.min, entry.max) for entry in dims if not isinstance(entry, shapes._DerivedDim)}


def _range(lower: Any, upper: Any) -> tuple[int, int | None]:
    most = _integer(upper)
    return _integer(lower) or 0, None if most is None or most >= LARGEST_SIZE else most


def _integer(bound: Any) -> int | None:
    try:
        return int(bound)
    except (OverflowError, TypeError, ValueError, AttributeError):  # an infinite bound
        return None


def spelled_all(texts: Iterable[str], names: Mapping[str, str]) -> dict[str, dims.Dim]:
    """`spelled` for each different text."""
    return {text: spelled(text, names) for text in set(texts)}


def spelled(text: str, names: Mapping[str, str]) -> dims.Dim:
    """A size as torch writes it (`((2*s27 + 2)//3)`), its symbols called by `names`; None for what no Dim can say."""
    try:
        return _dim(ast.parse(text, mode="eval").body, names)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _dim(node: ast.expr, names: Mapping[str, str]) -> dims.Dim:
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.Name(id=symbol):
            name = names.get(symbol, symbol)
            return dims.named(name) if name.isidentifier() else spelled(name, {})
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return dims.negate(_dim(operand, names))
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(power))) if 0 <= power <= 8:
            return dims.product([_dim(left, names)] * power)
        case ast.BinOp(left=left, op=operator, right=right):
            return _operation(operator, _dim(left, names), _dim(right, names))
        case ast.Call(func=ast.Name(id="Max" | "Min" as function), args=[first, *others]):
            total = _dim(first, names)
            for other in others:
                total = (dims.maximum if function == "Max" else dims.minimum)(total, _dim(other, names))
            return total
        case ast.Call(func=ast.Name(id="FloorDiv" | "CleanDiv"), args=[left, right]):
            return _floor(_dim(left, names), _dim(right, names))
        case ast.Call(func=ast.Name(id="Mod" | "PythonMod"), args=[left, right]):
            return dims.modulo(_dim(left, names), _dim(right, names))
        case _:
            return None


def _operation(operator: ast.operator, left: dims.Dim, right: dims.Dim) -> dims.Dim:
    match operator:
        case ast.Add():
            return dims.add(left, right)
        case ast.Sub():
            return dims.add(left, dims.negate(right))
        case ast.Mult():
            return dims.multiply(left, right)
        case ast.FloorDiv():
            return _floor(left, right)
        case ast.Mod():
            return dims.modulo(left, right)
        case _:
            return None


def _floor(left: dims.Dim, right: dims.Dim) -> dims.Dim:
    """The quotient rounded down. A Dim's division rounds toward zero, so what may be negative is first made a multiple."""
    if not isinstance(right, int) or right <= 0:
        return None
    if isinstance(left, dims.SymbolicDim) and any(coefficient < 0 for _, coefficient in left.terms):
        left = dims.add(left, dims.negate(dims.modulo(left, right)))
    return dims.divide(left, right)
