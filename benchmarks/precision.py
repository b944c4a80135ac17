"""Lower precision against what others make of it: time and error on held-back inputs, in turns, a process each.

    python -m benchmarks.precision auto MODEL.onnx ...      # against OpenVINO's default, at the error that this makes
    python -m benchmarks.precision int8 MODEL.onnx ...      # against ONNX Runtime's quantizer and NNCF's, same calibration data
    python -m benchmarks.precision weights MODEL.onnx ...   # 4 bits by blocks against ONNX Runtime's, same block size
        [--budget 60] [--samples 16] [--held-back 4] [--block-size 32] [--nncf PYTHON] [--keep FOLDER] [--cache FOLDER]
        [--threads 2] [--rounds 8] [--seconds 0.5] [--inputs FOLDER] [--json FILE] [--allow MODEL=ERROR ...]

Errors are relative L2 distances from the file in ONNX Runtime with all optimizations off, on inputs that nobody has calibrated
with; all inputs are made by seed, like those in MODEL.npz. A ratio is a rival's median by the program's: above 1 the program is
faster. NNCF may be installed for another interpreter, named by --nncf; where it is nowhere its column stays empty. With --keep
what the others make is used again by the next run, with --cache what irc measured. Where the processor has no bf16 OpenVINO's
default is f32 and its error is rounding: --allow gives the errors that it makes elsewhere.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from irc.runtime import BIN_FILE, XML_FILE, Contestant, EngineFailure, RunError, Workload, measure

from .held_back import CALIBRATION, HELD_BACK, distance, write_answers, write_samples
from .racing import Report, compiled, error_text, parser_of, rows_of
from .weighing import Weighed, weigh

MEBIBYTE = 1 << 20
MISSED = 1
"""The exit code of `irc compile` where the budget cannot be met; the best valid artifact is written all the same."""

PLAIN, DEFAULT, IN_OPENVINO = "onnxruntime f32", "openvino default", "same graph, openvino"


@dataclass(frozen=True)
class Figures:
    """A contestant's median in milliseconds, its error on held-back inputs, and MiB of its file."""

    ms: float
    error: float
    size: float


@dataclass(frozen=True)
class Row:
    """What a model came to: seconds to compile, the error allowed if one was, bytes of a weight by contestant, the contestants.

    `missing` says why a contestant is not among them.
    """

    seconds: float
    allowed: float | None
    own: Figures
    rivals: Mapping[str, Figures]
    missing: Mapping[str, str]
    bytes_of_a_weight: Mapping[str, float]

    def ratio(self, rival: str) -> float | None:
        """How many times as fast as a rival the program is."""
        return self.rivals[rival].ms / self.own.ms if rival in self.rivals else None


@dataclass(frozen=True)
class Bench:
    """What all models share: how many samples, how long irc may measure, where things are kept, whose interpreter has NNCF."""

    samples: int
    held_back: int
    budget: float
    block_size: int
    nncf: str
    keep: Path | None
    cache: Path | None
    error: float
    allowed: Mapping[str, float]


@dataclass(frozen=True)
class Room:
    """The files of one model: its samples, the answers of each contestant, what others made of it."""

    bench: Bench
    model: Path
    workload: Workload
    folder: Path

    @property
    def calibration(self) -> Path:
        """The samples to calibrate with."""
        return self.folder / "calibration"

    @property
    def held_back(self) -> Path:
        """The samples to judge by."""
        return self.folder / "held-back"

    def prepare(self) -> None:
        """Make the samples and the answers of the reference."""
        like = self.workload.inputs or self.model.with_suffix(".npz")
        write_samples(like, self.calibration, self.bench.samples, CALIBRATION)
        write_samples(like, self.held_back, self.bench.held_back, HELD_BACK)
        self.answer(Contestant("reference", self.model, engine="reference"))

    def answer(self, contestant: Contestant) -> Path:
        """The folder of a contestant's answers on held-back inputs. Raises EngineFailure."""
        place = self.folder / "answers" / contestant.name.replace(" ", "-").replace(",", "")
        threads = self.workload.threads or 2
        write_answers(contestant.path, contestant.engine, threads, self.held_back, place)
        return place

    def error(self, contestant: Contestant) -> float:
        """The distance of a contestant's answers from the reference's. Raises EngineFailure."""
        return distance(self.answer(contestant), self.folder / "answers" / "reference")

    def compile(self, name: str, *words: str) -> tuple[Contestant, float]:
        """A contestant of irc's, compiled with more words, and the seconds that took. Raises EngineFailure."""
        place = self.folder / f"{name.replace(' ', '-').replace(',', '')}.irc"
        place.unlink(missing_ok=True)
        words = (*words, "--calib", str(self.calibration))
        with tempfile.TemporaryDirectory(prefix="irc-cache-") as cache:
            seconds = compiled(self.model, place, self.workload, str(self.bench.cache or cache), *words, good=(0, MISSED))
        return Contestant(name, place), seconds

    def quantized(self, tool: str, suffix: str) -> Path:
        """What another quantizer made of the model. Raises EngineFailure with its last words."""
        place = self.folder / f"{tool}{suffix}"
        if place.exists():
            return place
        python = self.bench.nncf if tool == "nncf" else sys.executable
        script = Path(__file__).with_name("quantizers.py")
        words = ["--samples", str(self.calibration), "--block-size", str(self.bench.block_size)]
        done = subprocess.run(
            [python, str(script), tool, str(self.model), str(place), *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise EngineFailure(said[-1] if said else f"{tool} ended with {done.returncode}", location=tool)
        print(f"{self.model.stem}: {tool}: {done.stdout.strip()}", file=sys.stderr, flush=True)
        return place


Rival = Callable[[Room], Contestant]
"""Makes a rival of a model. Raises RunError where that fails."""


def _plain(room: Room) -> Contestant:
    return Contestant(PLAIN, room.model)


def _default(room: Room) -> Contestant:
    return Contestant(DEFAULT, room.model, engine="openvino-default")


def _quantized(name: str, tool: str, suffix: str, engine: str) -> Rival:
    return lambda room: Contestant(name, room.quantized(tool, suffix), engine=engine)


def _same_in_openvino(room: Room) -> Contestant:
    """irc's own int8 graph as OpenVINO runs it, left alone: what is not int8 in the precision that it prefers.

    For a processor with VNNI: for others irc keeps weights from OpenVINO that its sums of bytes would saturate with. Nothing of
    one elsewhere can be checked, so inputs to check with have no use.
    """
    words = ("--precision", "int8", "--engine", "openvino", "-O2", "--target", "cpu:avx512vnni", "--no-verify")
    artifact = replace(room, workload=replace(room.workload, inputs=None)).compile(IN_OPENVINO, *words)[0].path
    with zipfile.ZipFile(artifact) as archive:
        if XML_FILE not in archive.namelist():
            raise EngineFailure("OpenVINO does not take the whole graph", location=IN_OPENVINO)
        archive.extractall(room.folder / artifact.stem, [XML_FILE, BIN_FILE])
    return Contestant(IN_OPENVINO, room.folder / artifact.stem / XML_FILE, engine="openvino-default")


STATIC = "onnxruntime int8"
RIVALS: Mapping[str, Mapping[str, Rival]] = {
    "auto": {DEFAULT: _default, PLAIN: _plain},
    "int8": {
        IN_OPENVINO: _same_in_openvino,
        STATIC: _quantized(STATIC, "static", ".onnx", "onnxruntime"),
        "its graph, openvino": _quantized("its graph, openvino", "static", ".onnx", "openvino-default"),
        "nncf, openvino": _quantized("nncf, openvino", "nncf", ".xml", "openvino-default"),
        PLAIN: _plain,
    },
    "weights": {
        "onnxruntime 4 bits": _quantized("onnxruntime 4 bits", "nbits", ".onnx", "onnxruntime"),
        PLAIN: _plain,
    },
}
"""Whom the program is compared with, by mode."""


def flags_of(mode: str, room: Room, allowed: float | None) -> list[str]:
    """What irc is asked for."""
    budget = ["-O3", "--tune-budget", str(room.bench.budget)]
    match mode:
        case "auto":
            return ["--precision", "auto", "--max-error", f"{allowed:.3e}", *budget]
        case "int8":
            return ["--precision", "int8", *budget]
        case _:
            return ["--precision", "int4-weights", *budget]


def measured(mode: str, bench: Bench, model: Path, workload: Workload, folder: Path) -> Row:
    """Make all contestants, ask each for its answers, and let them take turns. Raises RunError where irc fails."""
    name = f"{model.stem}-{bench.samples}-{bench.held_back}-{bench.block_size}"
    room = Room(bench, model, workload, (bench.keep or folder) / name)
    room.prepare()
    rivals: dict[str, Contestant] = {}
    errors: dict[str, float] = {}
    missing: dict[str, str] = {}
    for each, make in RIVALS[mode].items():
        try:
            rivals[each] = make(room)
            errors[each] = room.error(rivals[each])
        except RunError as failure:
            rivals.pop(each, None)
            missing[each] = str(failure)
            print(f"{model.stem}: without {each}: {failure}", file=sys.stderr, flush=True)
    allowed = bench.allowed.get(model.stem, errors.get(DEFAULT, bench.error)) if mode == "auto" else None
    own, seconds = room.compile("irc", *flags_of(mode, room, allowed))
    errors["irc"] = room.error(own)
    turns = replace(workload, inputs=room.held_back / "0000.npz")
    found = {each.name: each.p50 for each in measure([own, *rivals.values()], turns)}
    figures = {
        each.name: Figures(found[each.name], errors[each.name], _bytes(each.path) / MEBIBYTE)
        for each in (own, *rivals.values())
    }
    weighed = weigh(model) if mode == "weights" else None
    weights = _bytes_of_a_weight(weighed, [own, *rivals.values()])
    return Row(seconds, allowed, figures.pop("irc"), figures, missing, weights)


def _bytes(path: Path) -> int:
    """The size of a file, and of the weights beside it."""
    beside = path.with_suffix(".bin")
    return path.stat().st_size + (beside.stat().st_size if path.suffix == ".xml" and beside.exists() else 0)


def _bytes_of_a_weight(weighed: Weighed | None, contestants: Iterable[Contestant]) -> dict[str, float]:
    return {} if weighed is None else {each.name: weighed.bytes_of_a_weight(_bytes(each.path)) for each in contestants}


def _cells(mode: str, name: str, row: Row) -> list[str]:
    def shown(each: Figures | None, contestant: str) -> str:
        if each is None:
            return "–"
        weight = row.bytes_of_a_weight.get(contestant)
        words = [f"{each.ms:.3f}", error_text(each.error), *([] if weight is None else [f"{weight:.3f}"])]
        return "\N{NO-BREAK SPACE}".join(words)

    ratios = [row.ratio(rival) for rival in RIVALS[mode]]
    return [
        name,
        f"{row.seconds:.0f}",
        error_text(row.allowed),
        shown(row.own, "irc"),
        *(shown(row.rivals.get(rival), rival) for rival in RIVALS[mode]),
        *("–" if each is None else f"{each:.3f}" for each in ratios),
    ]


def summary(mode: str, rows: Sequence[Row]) -> list[str]:
    """For each rival: how many times as fast the program is, and for how many models its error is no larger."""
    lines: list[str] = []
    for rival in RIVALS[mode]:
        both = [row for row in rows if rival in row.rivals]
        if not both:
            lines.append(f"{rival}: nothing to compare with")
            continue
        ratios = [row.rivals[rival].ms / row.own.ms for row in both]
        good = sum(row.own.error <= row.rivals[rival].error for row in both)
        means = f"{statistics.geometric_mean(ratios):.3f} times as fast (least {min(ratios):.3f})"
        errors = "" if rival == PLAIN else f", an error no larger in {good} of {len(both)}"
        lines.append(f"{rival}: {means}{errors}")
    return lines


def interpreter_with_nncf(asked: str | None) -> str:
    """The interpreter that runs NNCF, with a sentence where it is not installed for it."""
    python = asked or sys.executable
    code = "from importlib.util import find_spec; print(find_spec('nncf') is not None)"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if found.stdout.strip() != "True":
        print(f"NNCF is not installed for {python}, so its column stays empty: pip install nncf openvino", file=sys.stderr)
    return python


def _allowance(word: str) -> tuple[str, float]:
    """A model's name and the error that it is allowed. Raises ValueError for any other word."""
    name, _, error = word.partition("=")
    return name, float(error)


def arguments_of(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = parser_of("precision", __doc__, rounds=8, modes=tuple(RIVALS))
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--held-back", type=int, default=4)
    parser.add_argument("--block-size", type=int, default=32)
    parser.add_argument("--max-error", type=float, default=1e-2, help="where OpenVINO refuses the file")
    parser.add_argument("--allow", nargs="+", type=_allowance, default=[], metavar="MODEL=ERROR")
    parser.add_argument("--nncf", metavar="PYTHON")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--cache", type=Path)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Measure every model and print a table; what fails is listed with its reason."""
    arguments = arguments_of(words)
    mode: str = arguments.mode
    bench = Bench(
        samples=arguments.samples,
        held_back=arguments.held_back,
        budget=arguments.budget,
        block_size=arguments.block_size,
        nncf=interpreter_with_nncf(arguments.nncf) if mode == "int8" else sys.executable,
        keep=arguments.keep,
        cache=arguments.cache,
        error=arguments.max_error,
        allowed=dict(arguments.allow),
    )
    figures = "ms, error, bytes of a weight" if mode == "weights" else "ms, error"
    columns = ("model", "compile s", "allowed", "irc", *RIVALS[mode], *(f"by {rival}" for rival in RIVALS[mode]))
    rows = rows_of(arguments, Report(columns, frozenset({"model"}), partial(_cells, mode)), partial(measured, mode, bench))
    print(f"{figures} of each contestant; {arguments.threads} threads, a process each, in turns; irc by rival:")
    for line in summary(mode, list(rows.values())):
        print(f"  {line}")


if __name__ == "__main__":
    main()
