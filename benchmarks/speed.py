"""O2 through ONNX Runtime against the untouched file in ONNX Runtime: a ratio for each model, and their geometric mean.

    python -m benchmarks.speed MODEL.onnx ... [--threads 2] [--rounds 10] [--seconds 0.5] [--level 2] [--inputs FOLDER]

Each model is compiled first. Then program and file take turns, a process each; inputs come from MODEL.npz, beside the model or
in FOLDER, where it is there.
The ratio is the file's median time by the program's: above 1 the program is faster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from irc.ir import IrcError
from irc.lowering import CompileOptions, compile_model
from irc.runtime import Contestant, RunError, Workload, measure


def ratio(model: Path, workload: Workload, level: int, folder: Path) -> tuple[float, float]:
    """Median milliseconds of the compiled program and of the file in plain ONNX Runtime."""
    place = folder / f"{model.stem}.irc"
    compiled = compile_model(model, CompileOptions(opt_level=level))
    compiled.program.save(place)
    compiled.program.close()
    own, plain = measure([Contestant("irc", place), Contestant("onnxruntime", model)], workload)
    return statistics.median(r.p50 for r in own.rounds), statistics.median(r.p50 for r in plain.rounds)


def main() -> None:
    """Measure every model and print a table; what fails is listed with its reason."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--level", type=int, default=2)
    parser.add_argument("--inputs", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found: dict[str, tuple[float, float]] = {}
    table = Table(box=None)
    for column in ("model", "irc ms", "ONNX Runtime ms", "ratio"):
        table.add_column(column, justify="left" if column == "model" else "right")
    with tempfile.TemporaryDirectory(prefix="irc-speed-") as folder:
        for model in arguments.models:
            inputs = (arguments.inputs or model.parent) / f"{model.stem}.npz"
            workload = Workload(
                inputs=inputs if inputs.exists() else None,
                threads=arguments.threads,
                rounds=arguments.rounds,
                seconds=arguments.seconds,
            )
            try:
                own, plain = found[model.stem] = ratio(model, workload, arguments.level, Path(folder))
            except (IrcError, RunError) as error:
                table.add_row(model.stem, "–", "–", str(error)[:80])
                continue
            table.add_row(model.stem, f"{own:.3f}", f"{plain:.3f}", f"{plain / own:.3f}")
    Console(width=160).print(table)
    if found:
        print(f"geometric mean: {statistics.geometric_mean(b / a for a, b in found.values()):.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
