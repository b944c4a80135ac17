"""When torch.export cannot keep a dim as it was asked for: what it says, and the dims to try next.

It raises a UserError that lists the guards a named dim would break, and sometimes suggests fixes. Both are read here.
"""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch._dynamo.exc import UserError
from torch.export import Dim
from torch.export.dynamic_shapes import refine_dynamic_shapes_from_suggested_fixes as refine

from .dynamic import LeafDims, is_dynamic

_CLAUSE = re.compile(
    r"Not all values of (?P<dim>\w+) = (?P<source>L\[.+?) in the specified range satisfy .*?guard (?P<guard>.+)"
)
_AT_MOST = re.compile(r"(\w+) == min\((\d+), \1\)|min\((\d+), (\w+)\) == \4|(\w+) <= (\d+)|(\d+) >= (\w+)")


def violated(error: UserError) -> set[str]:
    """The names of the dims that torch.export could not keep."""
    found = re.search(r"Constraints violated \(([^)]*)\)", str(error))
    return {name.strip() for name in found[1].split(",")} if found else set()


def narrowed(error: UserError, dims: list[LeafDims]) -> list[LeafDims] | None:
    """The dims as torch suggests, or with the upper bounds that its guards ask for; None where neither changes them."""
    suggested: Any
    result: list[LeafDims]
    if "Suggested fixes:" in str(error):
        try:
            (suggested,) = refine(str(error), (tuple(dict(each) if each else None for each in dims),))
        except Exception:  # its parser takes the fixes it knows and raises all kinds of errors for others
            suggested = dims
        result = [each if each else None for each in suggested]
    else:
        derived_from = {entry.root.__name__ for leaf in dims for entry in (leaf or {}).values() if hasattr(entry, "root")}
        bounds = {name: bound for name, bound in _upper_bounds(error).items() if name not in derived_from}
        result = [{axis: _bounded(entry, bounds) for axis, entry in leaf.items()} if leaf else None for leaf in dims]
    return None if _same(result, dims) else result


def freed(dims: list[LeafDims], names: set[str] | None) -> list[LeafDims]:
    """The dims with one that torch need not prove (`Dim.AUTO`) in place of those called by `names`, or of all."""

    def free(entry: Any) -> Any:
        if not is_dynamic(entry):
            return entry
        root = getattr(entry, "root", entry)
        own = {getattr(entry, "__name__", ""), getattr(root, "__name__", "")}
        return Dim.AUTO if names is None or own & names else entry

    return [{axis: free(entry) for axis, entry in leaf.items()} if leaf else None for leaf in dims]


def _guards(error: UserError) -> Iterable[tuple[str, str]]:
    """The name of a dim and a guard on it, for each the error lists."""
    for line in str(error).splitlines():
        found = _CLAUSE.search(line)
        if found is not None:
            yield found["dim"], found["guard"].replace(found["source"], found["dim"]).strip(" .")


def _upper_bounds(error: UserError) -> dict[str, int]:
    bounds: dict[str, int] = {}
    for name, guard in _guards(error):
        for numbers in _AT_MOST.findall(guard):
            bound = min(int(each) for each in numbers if each.isdigit())
            bounds[name] = min(bound, bounds.get(name, bound))
    return bounds


def _bounded(entry: Any, bounds: dict[str, int]) -> Any:
    bound = bounds.get(entry.__name__) if isinstance(entry, Dim) else None
    return entry if bound is None or entry.max <= bound else Dim(entry.__name__, min=entry.min, max=bound)


def _same(first: list[LeafDims], second: list[LeafDims]) -> bool:
    def shown(dims: list[LeafDims]) -> list[Any]:
        return [{axis: repr(entry) for axis, entry in leaf.items()} if leaf else None for leaf in dims]

    return shown(first) == shown(second)
