"""O2 through ONNX Runtime against the untouched file in ONNX Runtime: a ratio for each model, and their geometric mean.

    python -m benchmarks.speed MODEL.onnx ... [--threads 2] [--rounds 10] [--seconds 0.5] [--level 2] [--inputs FOLDER]

Each model is compiled first. Then program and file take turns, a process each; inputs come from MODEL.npz, beside the model or
in FOLDER, where it is there.
The ratio is the file's median time by the program's: above 1 the program is faster.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from irc.lowering import CompileOptions, compile_model
from irc.runtime import Contestant, Workload, measure

from .racing import Report, parser_of, rows_of


@dataclass(frozen=True)
class Row:
    """The median milliseconds of the compiled program and of the file in plain ONNX Runtime."""

    own: float
    plain: float

    @property
    def ratio(self) -> float:
        """How many times as fast the program is."""
        return self.plain / self.own


def measured(level: int, model: Path, workload: Workload, folder: Path) -> Row:
    """Compile a model and measure it against its file."""
    place = folder / f"{model.stem}.irc"
    compiled = compile_model(model, CompileOptions(opt_level=level))
    compiled.program.save(place)
    compiled.program.close()
    own, plain = measure([Contestant("irc", place), Contestant("onnxruntime", model)], workload)
    return Row(statistics.median(each.p50 for each in own.rounds), statistics.median(each.p50 for each in plain.rounds))


def _cells(name: str, row: Row) -> list[str]:
    return [name, f"{row.own:.3f}", f"{row.plain:.3f}", f"{row.ratio:.3f}"]


def main() -> None:
    """Measure every model and print a table; what fails is listed with its reason."""
    parser = parser_of("speed", __doc__, rounds=10)
    parser.add_argument("--level", type=int, default=2)
    arguments = parser.parse_args()
    report = Report(("model", "irc ms", "ONNX Runtime ms", "ratio"), frozenset({"model"}), _cells)
    rows = rows_of(arguments, report, partial(measured, arguments.level))
    if rows:
        print(f"geometric mean: {statistics.geometric_mean(row.ratio for row in rows.values()):.3f}")


if __name__ == "__main__":
    main()
