"""`irc run`: feed an artifact, print what comes out, write it where asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from . import flags
from .output import Json, print_json, print_table

if TYPE_CHECKING:
    from irc.runtime import Program

OutputDirFlag = Annotated[
    Path | None, typer.Option("--output-dir", "-o", metavar="DIR", help="Write each output as NAME.npy here.")
]
RandomFlag = Annotated[bool, typer.Option("--random", help="Make up inputs that are not given.")]


def run_command(
    model: flags.AnyModelArgument,
    inputs: flags.InputFlag = None,
    archive: flags.InputsFlag = None,
    output_dir: OutputDirFlag = None,
    random: RandomFlag = False,
    seed: flags.SeedFlag = 0,
    dim: flags.DimFlag = None,
    threads: flags.ThreadsFlag = None,
    as_json: flags.JsonFlag = False,
) -> None:
    """Run an artifact once on inputs from .npy or .npz files."""
    from irc.ir import parse_dims

    from .feeds import random_feeds, read_feeds

    with open_program(model, threads) as program:
        feeds: dict[str, Any] = dict(read_feeds(inputs or [], archive, program.inputs))
        if random:
            feeds = random_feeds(program.inputs, seed, parse_dims(dim or []), feeds)
        outputs = program.run(feeds)
    files = _write(outputs, output_dir) if output_dir is not None else {}
    if as_json:
        print_json({name: {**_describe(value), "file": files.get(name)} for name, value in outputs.items()})
        return
    rows = [
        (name, *(_describe(value)[k] for k in ("dtype", "shape", "min", "mean", "max")), files.get(name, "–"))
        for name, value in outputs.items()
    ]
    print_table(None, ("output", "dtype", "shape", "min", "mean", "max", "file"), rows)


def open_program(model: Path, threads: int | None) -> Program:
    """The program in an artifact; an ONNX model is compiled at O2 first."""
    from irc.ir import UsageError
    from irc.runtime import load

    if model.suffix == ".onnx":
        from irc.lowering import compile_model

        from .compiling import compile_options, warn_of_failures

        compiled = compile_model(model, compile_options(threads=threads))
        warn_of_failures(compiled)
        return compiled.program
    if not model.exists():
        raise UsageError(f"there is no file '{model}'", hint="`irc compile model.onnx` makes an artifact")
    return load(model, threads=threads)


def _describe(value: Any) -> dict[str, Json]:
    if not isinstance(value, np.ndarray):
        return {
            "dtype": type(value).__name__,
            "shape": f"{len(value)} entries" if hasattr(value, "__len__") else "–",
            "min": "–",
            "mean": "–",
            "max": "–",
        }
    facts: dict[str, Json] = {"dtype": str(value.dtype), "shape": "x".join(map(str, value.shape)) or "scalar"}
    numeric = value.size > 0 and value.dtype.kind not in "OSUcV"
    if not numeric:
        return {**facts, "min": "–", "mean": "–", "max": "–"}
    wide = value.astype(np.float64)
    return {**facts, "min": f"{wide.min():.6g}", "mean": f"{wide.mean():.6g}", "max": f"{wide.max():.6g}"}


def _write(outputs: dict[str, Any], folder: Path) -> dict[str, str]:
    """Write each output under its name with anything a path could trip over replaced; the files by output name."""
    from irc.ir import UnsupportedError

    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {}
    for name, value in outputs.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind == "O":
            raise UnsupportedError(
                f"output '{name}' is no array of numbers and has no .npy form", hint="run it from Python instead"
            )
        safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name).lstrip(".") or "output"
        path = folder / f"{safe}.npy"
        number = 1
        while str(path) in files.values():
            path = folder / f"{safe}_{number}.npy"
            number += 1
        np.save(path, value)
        files[name] = str(path)
    return files
