"""`irc compile`: a model into an artifact, with a line on what was done."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import flags
from .kept import Taken, Told, keep, take, told
from .options import compile_options, engine_settings, instruments
from .output import check_file, print_json, write_whole
from .precision import (
    BlockSizeFlag,
    CalibFlag,
    CompressFlag,
    MaxDropFlag,
    MaxErrorFlag,
    MetricFlag,
    ParetoFlag,
    PrecisionFlag,
    SmallerFlag,
    fail_out_of_bounds,
    with_precision,
)
from .progress import progress
from .reporting import (
    compiled_json,
    print_compiled,
    print_details,
    print_statistics,
    print_taken,
    taken_json,
    warn_of_failures,
)

if TYPE_CHECKING:
    from irc.lowering import Compiled, CompileOptions
    from irc.passes import Instrument

    from .models import Model

OutputFlag = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write; default: MODEL with .irc.")
]
SpinFlag = Annotated[bool | None, typer.Option("--spin/--no-spin", help="Whether idle engine threads wait busily.")]
ProviderFlag = Annotated[
    list[str] | None,
    typer.Option("--provider", metavar="NAME", help="ONNX Runtime execution providers, in order; repeatable."),
]
FreshFlag = Annotated[bool, typer.Option("--fresh", help="Compile, even where the cache has the artifact from before.")]


def compile_command(
    model: flags.ModelArgument,
    output: OutputFlag = None,
    target: flags.TargetFlag = "cpu",
    engine: flags.EngineFlag = None,
    level: flags.LevelFlag = 2,
    tune_budget: flags.BudgetFlag = 60.0,
    passes: flags.PassesFlag = None,
    load: flags.LoadFlag = None,
    disable: flags.DisableFlag = None,
    rewrite_limit: flags.LimitFlag = None,
    dim: flags.SizesFlag = None,
    shape: flags.ShapeFlag = None,
    threads: flags.ThreadsFlag = None,
    spin: SpinFlag = None,
    provider: ProviderFlag = None,
    engine_option: flags.EngineOptionFlag = None,
    strict: flags.StrictFlag = False,
    verify: flags.VerifyFlag = None,
    inputs: flags.VerifyInputsFlag = None,
    precision: PrecisionFlag = None,
    max_error: MaxErrorFlag = None,
    metric: MetricFlag = None,
    max_drop: MaxDropFlag = None,
    calib: CalibFlag = None,
    compress: CompressFlag = None,
    smaller: SmallerFlag = False,
    block_size: BlockSizeFlag = None,
    html: ParetoFlag = None,
    dump_ir: flags.DumpFlag = None,
    print_after: flags.PrintAfterFlag = None,
    stats: flags.StatsFlag = False,
    fresh: FreshFlag = False,
    trust_pickle: flags.TrustFlag = False,
    as_json: flags.JsonFlag = False,
) -> None:
    """Compile a model into an artifact that runs anywhere irc's runtime is installed.

    MODEL may also be a PyTorch program: FILE.py:NAME, a function that returns (module, example_inputs), or a .pt2 file.
    """
    from .factories import default_place, is_torch_model
    from .models import open_model

    options = compile_options(target, engine, level, passes, load, disable, rewrite_limit, dim, shape, verify, inputs)
    settings = engine_settings(threads, spin, provider, engine_option)
    options = replace(options, engine_options=settings, tune_budget=tune_budget, strict=strict)
    options = with_precision(options, precision, max_error, metric, max_drop, calib, html, compress, smaller, block_size)
    place = output or (default_place(model) if is_torch_model(model) else _named_alike(model))
    read = [model, *(each for each in (inputs, calib) if each is not None)]
    _check_place(place, read)
    if html is not None:
        _check_page(html, place, read)
    watching = instruments(dump_ir, print_after, options.load)
    opened = open_model(model, trust_pickle)
    key = _key(model, options) if not (watching or stats) else None
    taken = None if fresh else take(key, place)
    if taken is not None:
        _tell_taken(taken, place, as_json)
        precision_found = taken.manifest.precision
    else:
        compiled = _compiled(opened, options, watching, place, key, as_json)
        if stats and not as_json:
            print_statistics(compiled.records)
        precision_found = compiled.precision
    if html is not None and precision_found is not None:
        from ..html import precision_page

        write_whole(html, precision_page(precision_found, model.name).encode())
    fail_out_of_bounds(precision_found)


def _key(model: Path, options: CompileOptions) -> str | None:
    """The key of a compilation in the cache; None for one that is not kept."""
    from irc.lowering import program_key

    from .factories import is_torch_model

    return program_key(model, options) if model.is_file() and not is_torch_model(model) else None


def _tell_taken(taken: Taken, place: Path, as_json: bool) -> None:
    sys.stderr.write(taken.told.remarks)
    if as_json:
        print_json(taken_json(taken.told, place))
    else:
        print_taken(taken.manifest, taken.told, place)


def _compiled(
    opened: Model, options: CompileOptions, watching: Sequence[Instrument], place: Path, key: str | None, as_json: bool
) -> Compiled:
    """Compile and save a model, tell of it, and keep it in the cache."""
    start = time.perf_counter()
    with progress() as shown:
        compiled = opened.compile(options, [*watching, *shown])
    spent = time.perf_counter() - start
    compiled.program.save(place)
    warn_of_failures(compiled)
    values = compiled_json(compiled, opened.notes, place)
    if as_json:
        print_json(values)
    else:
        print_compiled(compiled, options, place, spent)
    sys.stdout.flush()  # who waits for what is told need not wait for the cache

    def said() -> Told:
        return told(partial(print_details, compiled, options), partial(warn_of_failures, compiled), values, spent)

    keep(key, place, said)
    return compiled


def _named_alike(model: Path) -> Path:
    """Where the artifact of a file goes: beside it. Raises UsageError for a path that names no file, such as `.`."""
    from irc.ir import UsageError

    if not model.name or model.name == "..":
        raise UsageError(f"'{model}' is a directory", hint="MODEL is a file")
    return model.with_suffix(".irc")


def _check_page(page: Path, place: Path, read: Sequence[Path]) -> None:
    """Refuse a page that cannot be written, or would be written over the artifact at `place`. Raises UsageError."""
    from irc.ir import UsageError

    check_file(page, "--html", *read)
    if page.resolve() == place.resolve():
        raise UsageError(f"'{page}' is where the artifact goes", hint="give --html another name")


def _check_place(place: Path, read: Sequence[Path]) -> None:
    """Refuse a place where the artifact cannot or should not go. Raises UsageError."""
    from irc.ir import UsageError

    if place.suffix == ".onnx":
        hint = "name it .irc; `irc opt MODEL -o FILE.onnx` writes an ONNX model"
        raise UsageError(f"'{place}' ends in .onnx, but what is written is an artifact", hint=hint)
    check_file(place, "-o", *read)
