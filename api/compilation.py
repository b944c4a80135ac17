"""`irc.compile`: a model in, a program out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

import onnx

from irc.ir import UsageError, parse_dims, parse_shapes
from irc.lowering import CompileOptions, Verify, compile_model
from irc.runtime import Program


def compile(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto,
    *,
    target: str = "cpu",
    opt_level: int = 2,
    engine: str | None = None,
    passes: str | None = None,
    load: Sequence[str | os.PathLike[str]] | str | os.PathLike[str] = (),
    disable: Sequence[str] | str = (),
    rewrite_limit: int | None = None,
    dims: Mapping[str, int] | Sequence[str] | str = (),
    shapes: Mapping[str, tuple[int | None, ...]] | Sequence[str] | str = (),
    threads: int | None = None,
    spin: bool | None = None,
    providers: Sequence[str] | str | None = None,
    verify: str = "answers",
    inputs: str | os.PathLike[str] | None = None,
) -> Program:
    """Compile an ONNX model into a program that runs.

    `model` is a path, the bytes of a file, or a ModelProto. `opt_level` is 0 (as it is), 1 (same bits), 2 (same mathematics)
    or 3. `passes` is a pipeline text such as `"fold-constants, cse, canonicalize"` in place of the level's own; `load` names
    Python files that define passes or rules for it; `disable` names passes or rewrites to leave out. `dims` gives named dims
    their sizes (`{"batch": 4}` or `["batch=4"]`), `shapes` gives inputs theirs. `threads` is how many the engine uses
    (default: one a physical core), `spin` whether idle ones wait busily.
    `verify` is what is checked: `"answers"`, those of the program against the reference's from O2 on; `"rewrites"`, each
    rewrite too, before it is done; or `"nothing"`. What makes answers differ is left out, and `program.manifest.passes` names
    the rewrites undone. `inputs` is an `.npz` file to check with; without it inputs are made up.

    Raises `irc.IrcError` for what is wrong with the model or the options, `irc.RunError` when the engine fails; both say
    where and what to do.
    """
    _check_numbers(opt_level, threads, rewrite_limit)
    if not isinstance(model, (str, os.PathLike, bytes, onnx.ModelProto)):  # type: ignore[unnecessary]  # callers are untyped
        raise UsageError(f"a model is a path, bytes or a ModelProto, not {type(model).__name__}")
    engine_options = {
        **({} if threads is None else {"threads": threads}),
        **({} if spin is None else {"spin": spin}),
        **({} if providers is None else {"providers": _several(providers)}),
    }
    options = CompileOptions(
        target=target,
        opt_level=opt_level,
        engine=engine,
        passes=passes,
        load=_several(load),
        disable=frozenset(_several(disable)),
        rewrite_limit=rewrite_limit,
        dims=_sizes(dims) if isinstance(dims, Mapping) else parse_dims(list(_several(dims))),
        shapes=_shapes(shapes) if isinstance(shapes, Mapping) else parse_shapes(list(_several(shapes))),
        verify=_verify(verify, inputs),
        inputs=None if inputs is None else Path(inputs),
        engine_options=engine_options,
    )
    return compile_model(model, options).program


def _check_numbers(opt_level: object, threads: object, rewrite_limit: object) -> None:
    if isinstance(opt_level, bool) or opt_level not in (0, 1, 2, 3):
        raise UsageError(f"there is no optimization level {opt_level!r}", hint="use 0, 1, 2 or 3")
    if threads is not None and not (_is_size(threads) and 1 <= threads <= 1024):
        raise UsageError(f"{threads!r} is no number of threads", hint="use 1 to 1024")
    if rewrite_limit is not None and not _is_size(rewrite_limit):
        raise UsageError(f"{rewrite_limit!r} is no rewrite limit", hint="use 0 or more")


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


def _sizes(dims: Mapping[str, int]) -> Mapping[str, int]:
    for name, size in dims.items():
        if not _is_size(size):
            raise UsageError(f"dim '{name}' cannot be {size!r}", hint="a size is a number that is not negative")
    return dims


def _shapes(shapes: Mapping[str, tuple[int | None, ...]]) -> Mapping[str, tuple[int | None, ...]]:
    for name, shape in shapes.items():
        if not all(size is None or _is_size(size) for size in shape):
            raise UsageError(
                f"input '{name}' cannot have the shape {shape!r}", hint="a size is a number, or None to leave it open"
            )
    return shapes
