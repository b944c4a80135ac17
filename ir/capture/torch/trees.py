"""Nested inputs and outputs as flat leaves, by torch's pytrees; every leaf gets a name from the way that leads to it.

A dataclass that nobody registered with torch is registered when it is first met, as `torch.export.register_dataclass`
does; that is torch's own registry, so it holds for the whole process.
"""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch.utils import _pytree as pytree

TreeSpec = pytree.TreeSpec


def flatten(tree: Any) -> tuple[list[Any], TreeSpec]:
    """The leaves of a tree, and what `unflatten` needs to put others in their place."""
    while True:
        leaves, spec = pytree.tree_flatten(tree)
        unknown = {type(leaf) for leaf in leaves if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type)}
        if not unknown:
            return leaves, spec
        for kind in unknown:
            torch.export.register_dataclass(kind)


def unflatten(leaves: Iterable[Any], spec: TreeSpec) -> Any:
    """The tree with these leaves."""
    return pytree.tree_unflatten(leaves, spec)


def taker(spec: TreeSpec) -> Callable[[Any, list[Any]], bool]:
    """What appends the leaves of a tree of this very structure to a list, faster than `flatten`; it returns False for others.

    Only dicts, lists and tuples are known here; a tree with other nodes is always another.
    """
    if spec.is_leaf():
        return _take_leaf
    inner = [taker(child) for child in spec.children()]
    if spec.type is dict:
        return _dict_taker(list(zip(spec.context, inner, strict=True)))
    return _sequence_taker(spec.type, inner) if spec.type in (list, tuple) else _take_nothing


def _take_leaf(tree: Any, leaves: list[Any]) -> bool:
    leaves.append(tree)
    return True


def _take_nothing(tree: Any, leaves: list[Any]) -> bool:
    return False


def _dict_taker(inner: list[tuple[Any, Callable[[Any, list[Any]], bool]]]) -> Callable[[Any, list[Any]], bool]:
    count = len(inner)

    def take(tree: Any, leaves: list[Any]) -> bool:
        if type(tree) is not dict or len(tree) != count:
            return False
        for key, each in inner:  # noqa: SIM110  # a generator would cost more than the leaves
            if key not in tree or not each(tree[key], leaves):
                return False
        return True

    return take


def _sequence_taker(kind: type, inner: list[Callable[[Any, list[Any]], bool]]) -> Callable[[Any, list[Any]], bool]:
    count = len(inner)

    def take(tree: Any, leaves: list[Any]) -> bool:
        if type(tree) is not kind or len(tree) != count:
            return False
        for each, child in zip(inner, tree, strict=True):  # noqa: SIM110  # idem
            if not each(child, leaves):
                return False
        return True

    return take


def builder(spec: TreeSpec) -> Callable[[Iterator[Any]], Any]:
    """What makes a tree of this structure from its leaves, faster than `unflatten` where it is of dicts, lists and tuples."""
    if spec.is_leaf():
        return next
    inner = [builder(child) for child in spec.children()]
    if spec.type is dict:
        pairs = list(zip(spec.context, inner, strict=True))
        return lambda leaves: {key: build(leaves) for key, build in pairs}
    if spec.type is list:
        return lambda leaves: [build(leaves) for build in inner]
    if spec.type is tuple:
        return lambda leaves: tuple([build(leaves) for build in inner])
    count = spec.num_leaves
    return lambda leaves: unflatten(list(islice(leaves, count)), spec)


def input_names(module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """A name for each leaf of `(args, kwargs)`: the parameter, then the keys that lead to the leaf (`past.0.key`)."""
    parameters = _positional_names(module, len(args))
    names: list[str] = []
    for path in _paths((tuple(args), dict(kwargs))):
        place, key, *inner = (_key(each) for each in path)
        names.append(".".join((parameters[int(key)] if place == "0" else key, *inner)))
    return names


def output_names(tree: Any) -> list[str]:
    """A name for each leaf of what a module returns: its keys, below `output` where the first of them is a number."""
    paths = [[_key(each) for each in path] for path in _paths(tree)]
    return [".".join(path if path and not path[0].isdigit() else ["output", *path]) for path in paths]


def unique(names: Iterable[str], taken: set[str]) -> list[str]:
    """The names, each made different from the ones before and from those `taken`, which then holds them."""
    made: list[str] = []
    for name in names:
        candidate, count = name, 1
        while candidate in taken:
            candidate, count = f"{name}_{count}", count + 1
        taken.add(candidate)
        made.append(candidate)
    return made


def _paths(tree: Any) -> list[Sequence[Any]]:
    try:
        return [path for path, _ in pytree.tree_flatten_with_path(tree)[0]]
    except ValueError:  # a registered class that cannot name its keys: count them
        return list(_counted(tree))


def _counted(tree: Any, path: tuple[Any, ...] = ()) -> Iterable[Sequence[Any]]:
    kind = pytree._get_node_type(tree)
    if kind not in pytree.SUPPORTED_NODES:
        yield path
        return
    children, context = pytree.SUPPORTED_NODES[kind].flatten_fn(tree)
    keys = context if kind is dict else range(len(children))
    for key, child in zip(keys, children, strict=True):
        yield from _counted(child, (*path, pytree.MappingKey(key)))


def _key(key: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return re.sub(r"[^\w.-]", "_", str(getattr(key, attribute)))
    return re.sub(r"\W", "_", str(key))


def _positional_names(module: torch.nn.Module, count: int) -> list[str]:
    """What the first `count` positional arguments of a module are called; those a `*args` takes are numbered."""
    names: list[str] = []
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            names.extend(f"{parameter.name}.{index}" for index in range(count - len(names)))
        elif parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
    return [*names[:count], *(f"input.{index}" for index in range(len(names), count))]
