"""The words of `irc.compile` and of `torch.compile(backend="irc", options=...)`, and what they mean to the driver."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeGuard, cast

from irc.ir import UsageError, closest, parse_dims, parse_shapes
from irc.lowering import CompileOptions, Precision, Score, Verify, check_precision

Names = Sequence[str] | str
Paths = Sequence[str | os.PathLike[str]] | str | os.PathLike[str]


class Options(TypedDict, total=False):
    """What may be said about a compilation; `irc.compile` describes each."""

    target: str
    opt_level: int
    tune_budget: float
    engine: str | None
    passes: str | None
    load: Paths
    disable: Names
    rewrite_limit: int | None
    dims: Mapping[str, int | Sequence[int]] | Names
    shapes: Mapping[str, tuple[int | None, ...]] | Names
    threads: int | None
    spin: bool | None
    providers: Names | None
    strict: bool
    verify: str
    inputs: str | os.PathLike[str] | None
    precision: str | None
    max_error: float | None
    max_drop: float | None
    metric: str | Score | None
    calib: str | os.PathLike[str] | Iterable[Mapping[str, Any]] | None
    compress: str | None
    smaller: bool
    block_size: int


def compile_options(options: Options) -> CompileOptions:
    """The driver's options. Raises UsageError for a word that is none, and for what a word cannot be."""
    for word in options:
        if word not in Options.__annotations__:
            hint = closest(word, list(Options.__annotations__)) or f"there are {', '.join(Options.__annotations__)}"
            raise UsageError(f"there is no option '{word}'", hint=hint)
    threads, spin, providers = options.get("threads"), options.get("spin"), options.get("providers")
    opt_level, rewrite_limit = options.get("opt_level", 2), options.get("rewrite_limit")
    tune_budget = options.get("tune_budget", 60.0)
    _check_numbers(opt_level, threads, rewrite_limit, tune_budget)
    dims, shapes, inputs = options.get("dims", ()), options.get("shapes", ()), options.get("inputs")
    precision, calib = options.get("precision"), options.get("calib")
    strict, smaller = options.get("strict", False), options.get("smaller", False)
    for word, given in (("strict", strict), ("smaller", smaller)):
        if not isinstance(given, bool):  # pyright: ignore[reportUnnecessaryIsInstance]  # a caller may not check types
            raise UsageError(f"{word} cannot be {given!r}", hint="use True or False")
    compress = options.get("compress")
    if not isinstance(compress, str | None):  # pyright: ignore[reportUnnecessaryIsInstance]  # a caller may not check types
        raise UsageError(f"compress cannot be {compress!r}", hint='it is a text such as "prune-channels, share-weights"')
    chosen = CompileOptions(
        target=options.get("target", "cpu"),
        opt_level=opt_level,
        tune_budget=tune_budget,
        engine=options.get("engine"),
        passes=options.get("passes"),
        load=_several(options.get("load", ())),
        disable=frozenset(_several(options.get("disable", ()))),
        rewrite_limit=rewrite_limit,
        dims=_sizes(dims) if isinstance(dims, Mapping) else parse_dims(list(_several(dims))),
        shapes=_shapes(shapes) if isinstance(shapes, Mapping) else parse_shapes(list(_several(shapes))),
        verify=_verify(options.get("verify", Verify.ANSWERS.value), inputs),
        inputs=None if inputs is None else Path(inputs),
        strict=strict,
        engine_options={
            **({} if threads is None else {"threads": threads}),
            **({} if spin is None else {"spin": spin}),
            **({} if providers is None else {"providers": _several(providers)}),
        },
        precision=None if precision is None else Precision.named(precision),
        max_error=options.get("max_error"),
        max_drop=options.get("max_drop"),
        metric=options.get("metric"),
        calib=Path(calib) if isinstance(calib, (str, os.PathLike)) else calib,
        compress=compress,
        smaller=smaller,
        block_size=options.get("block_size"),
    )
    check_precision(chosen)
    return chosen


def _check_numbers(opt_level: object, threads: object, rewrite_limit: object, tune_budget: object) -> None:
    if isinstance(opt_level, bool) or opt_level not in (0, 1, 2, 3):
        raise UsageError(f"there is no optimization level {opt_level!r}", hint="use 0, 1, 2 or 3")
    if threads is not None and not (_is_size(threads) and 1 <= threads <= 1024):
        raise UsageError(f"{threads!r} is no number of threads", hint="use 1 to 1024")
    if rewrite_limit is not None and not _is_size(rewrite_limit):
        raise UsageError(f"{rewrite_limit!r} is no rewrite limit", hint="use 0 or more")
    if isinstance(tune_budget, bool) or not isinstance(tune_budget, int | float) or not 0 <= tune_budget <= 86_400:
        raise UsageError(f"{tune_budget!r} is no budget for tuning", hint="give seconds, up to 86,400; 0 measures nothing")


def _verify(word: object, inputs: str | os.PathLike[str] | None) -> Verify:
    words = [each.value for each in Verify]
    if word not in words:
        raise UsageError(f"verify cannot be {word!r}", hint=f"use {', '.join(map(repr, words))}")
    if inputs is not None and word == Verify.NOTHING.value:
        raise UsageError("with verify='nothing' inputs have no use", hint="leave one of them out")
    if inputs is not None and not Path(inputs).is_file():
        raise UsageError(f"there is no file '{os.fspath(inputs)}'", hint="inputs are the path of an .npz file")
    return Verify(word)


def _is_size(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _several(names: Iterable[str | os.PathLike[str]] | str | os.PathLike[str]) -> tuple[str, ...]:
    """One name given by itself is a list of one."""
    listed = (names,) if isinstance(names, (str, os.PathLike)) else names
    return tuple(os.fspath(name) for name in listed)


def _sizes(dims: Mapping[str, int | Sequence[int]]) -> dict[str, int | tuple[int, ...]]:
    return {name: _size_or_several(name, given) for name, given in dims.items()}


def _size_or_several(name: str, given: object) -> int | tuple[int, ...]:
    if _is_size(given):
        return given
    several = tuple(cast("Sequence[object]", given)) if isinstance(given, list | tuple) else ()
    if several and all(map(_is_size, several)):
        return cast("tuple[int, ...]", several)
    hint = "a size is a number that is not negative; several make a variant each"
    raise UsageError(f"dim '{name}' cannot be {given!r}", hint=hint)


def _shapes(shapes: Mapping[str, tuple[int | None, ...]]) -> Mapping[str, tuple[int | None, ...]]:
    for name, shape in shapes.items():
        if not all(size is None or _is_size(size) for size in shape):
            raise UsageError(
                f"input '{name}' cannot have the shape {shape!r}", hint="a size is a number, or None to leave it open"
            )
    return shapes
