"""`irc.compile`: a model in, a program out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import onnx

from irc.ir import UsageError, parse_dims, parse_shapes
from irc.lowering import CompileOptions, compile_model
from irc.runtime import Program


def compile(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto,
    *,
    target: str = "cpu",
    opt_level: int = 2,
    engine: str | None = None,
    passes: str | None = None,
    load: Sequence[str | os.PathLike[str]] = (),
    disable: Sequence[str] = (),
    rewrite_limit: int | None = None,
    dims: Mapping[str, int] | Sequence[str] = (),
    shapes: Mapping[str, tuple[int | None, ...]] | Sequence[str] = (),
    threads: int | None = None,
    spin: bool | None = None,
    providers: Sequence[str] | None = None,
    verify: bool = True,
) -> Program:
    """Compile an ONNX model into a program that runs.

    `model` is a path, the bytes of a file, or a ModelProto. `opt_level` is 0 (as it is), 1 (same bits), 2 (same mathematics)
    or 3. `passes` is a pipeline text such as `"fold-constants, cse, canonicalize"` in place of the level's own; `load` names
    Python files that define passes or rules for it; `disable` names passes or rewrites to leave out. `dims` gives named dims
    their sizes (`{"batch": 4}` or `["batch=4"]`), `shapes` gives inputs theirs. `threads` is how many the engine uses
    (default: one a physical core), `spin` whether idle ones wait busily.
    From O2 on the program's answers are compared with the reference's on made-up inputs, and what makes them differ is left
    out, unless `verify` is False.

    Raises `irc.IrcError` for what is wrong with the model or the options, `irc.RunError` when the engine fails; both say
    where and what to do.
    """
    if opt_level not in (0, 1, 2, 3):
        raise UsageError(f"there is no optimization level {opt_level}", hint="use 0, 1, 2 or 3")
    if threads is not None and not 1 <= threads <= 1024:
        raise UsageError(f"{threads} is no number of threads", hint="use 1 to 1024")
    engine_options = {
        **({} if threads is None else {"threads": threads}),
        **({} if spin is None else {"spin": spin}),
        **({} if providers is None else {"providers": tuple(providers)}),
    }
    options = CompileOptions(
        target=target,
        opt_level=opt_level,
        engine=engine,
        passes=passes,
        load=tuple(os.fspath(path) for path in load),
        disable=frozenset(disable),
        rewrite_limit=rewrite_limit,
        dims=dims if isinstance(dims, Mapping) else parse_dims(list(dims)),
        shapes=shapes if isinstance(shapes, Mapping) else parse_shapes(list(shapes)),
        verify=verify,
        engine_options=engine_options,
    )
    return compile_model(model, options).program
