"""`irc compile`: a model into an artifact, with a line on what was done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from . import flags
from .options import compile_options, engine_settings, instruments
from .output import check_file, print_json, write_whole
from .precision import (
    CalibFlag,
    MaxDropFlag,
    MaxErrorFlag,
    MetricFlag,
    ParetoFlag,
    PrecisionFlag,
    fail_out_of_bounds,
    with_precision,
)
from .progress import progress
from .reporting import compiled_json, print_compiled, print_statistics, warn_of_failures

OutputFlag = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write; default: MODEL with .irc.")
]
SpinFlag = Annotated[bool | None, typer.Option("--spin/--no-spin", help="Whether idle engine threads wait busily.")]
ProviderFlag = Annotated[
    list[str] | None,
    typer.Option("--provider", metavar="NAME", help="ONNX Runtime execution providers, in order; repeatable."),
]


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
    html: ParetoFlag = None,
    dump_ir: flags.DumpFlag = None,
    print_after: flags.PrintAfterFlag = None,
    stats: flags.StatsFlag = False,
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
    options = with_precision(options, precision, max_error, metric, max_drop, calib, html)
    place = output or (default_place(model) if is_torch_model(model) else model.with_suffix(".irc"))
    _check_place(model, place)
    if html is not None:
        check_file(html, "--html", model)
    watching = instruments(dump_ir, print_after, options.load)
    opened = open_model(model, trust_pickle)
    with progress() as shown:
        compiled = opened.compile(options, [*watching, *shown])
    compiled.program.save(place)
    warn_of_failures(compiled)
    if html is not None and compiled.precision is not None:
        from ..html import precision_page

        write_whole(html, precision_page(compiled.precision, model.name).encode())
    if as_json:
        print_json(compiled_json(compiled, opened.notes, place))
    else:
        print_compiled(compiled, options, place)
        if stats:
            print_statistics(compiled.records)
    fail_out_of_bounds(compiled.precision)


def _check_place(model: Path, place: Path) -> None:
    """Refuse a place where the artifact cannot or should not go. Raises UsageError."""
    from irc.ir import UsageError

    if place.suffix == ".onnx":
        hint = "name it .irc; `irc opt MODEL -o FILE.onnx` writes an ONNX model"
        raise UsageError(f"'{place}' ends in .onnx, but what is written is an artifact", hint=hint)
    check_file(place, "-o", *([model] if model.is_file() else []))
