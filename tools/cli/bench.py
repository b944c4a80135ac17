"""`irc bench`: compile, load, first run and steady state apart; with --against, a process each, in turns."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import flags
from .output import Json, note, print_json, print_table, seconds

if TYPE_CHECKING:
    from irc.runtime import Comparison, Contestant, Measurement, Workload

AgainstFlag = Annotated[
    list[Path] | None,
    typer.Option(
        "--against",
        metavar="MODEL",
        help="Also measure this, in turns; an .onnx file runs in plain ONNX Runtime; repeatable.",
    ),
]
RoundsFlag = Annotated[int, typer.Option("--rounds", min=2, help="Turns each one gets.")]
DurationFlag = Annotated[float, typer.Option("--seconds", min=0.01, help="How long one turn lasts.")]


def bench_command(
    model: flags.AnyModelArgument,
    against: AgainstFlag = None,
    archive: flags.InputsFlag = None,
    dim: flags.DimFlag = None,
    seed: flags.SeedFlag = 0,
    level: flags.LevelFlag = 2,
    threads: flags.ThreadsFlag = None,
    rounds: RoundsFlag = 10,
    duration: DurationFlag = 0.5,
    as_json: flags.JsonFlag = False,
) -> None:
    """Measure a program; an ONNX model is compiled first, and that is measured too."""
    from irc.ir import UsageError, parse_dims
    from irc.runtime import Contestant, Workload, compare, measure_reference

    for path in (model, *(against or ())):
        if not path.exists():
            raise UsageError(f"there is no file '{path}'", hint="check the path")
    with tempfile.TemporaryDirectory(prefix="irc-bench-") as folder:
        artifact, compiled_in = _compiled(model, level, threads, Path(folder))
        contestants = [Contestant("irc", artifact), *(Contestant(_name(path), path) for path in against or ())]
        workload = Workload(
            inputs=archive, dims=parse_dims(dim or []), seed=seed, threads=threads, rounds=rounds, seconds=duration
        )
        reference = _reference([model, *(against or ())])
        if reference is not None:
            outputs = Path(folder) / "reference.npz"
            measure_reference(Contestant("reference", reference, optimize=False), workload, outputs)
            workload = Workload(
                inputs=archive,
                dims=workload.dims,
                seed=seed,
                reference=outputs,
                threads=threads,
                rounds=rounds,
                seconds=duration,
            )
        measured = _with_progress(contestants, workload)
    first = measured[0]
    comparisons = [compare(first.name, first.times, each.name, each.times) for each in measured[1:]]
    _print(measured, comparisons, compiled_in, as_json)


def _name(path: Path) -> str:
    return "onnxruntime" if path.suffix == ".onnx" else path.stem


def _compiled(model: Path, level: int, threads: int | None, folder: Path) -> tuple[Path, float | None]:
    """The artifact to measure, and the seconds its compilation took if it was made here."""
    if model.suffix != ".onnx":
        return model, None
    from irc.lowering import compile_model

    from .compiling import compile_options, warn_of_failures

    start = time.perf_counter()
    compiled = compile_model(model, compile_options(level=level, threads=threads))
    place = folder / "model.irc"
    compiled.program.save(place)
    spent = time.perf_counter() - start
    compiled.program.close()
    warn_of_failures(compiled)
    return place, spent


def _reference(paths: Sequence[Path]) -> Path | None:
    return next((path for path in paths if path.suffix == ".onnx"), None)


def _with_progress(contestants: Sequence[Contestant], workload: Workload) -> tuple[Measurement, ...]:
    from rich.console import Console
    from rich.progress import Progress

    from irc.runtime import measure

    with Progress(console=Console(stderr=True), transient=True, disable=not Console(stderr=True).is_terminal) as progress:
        task = progress.add_task("measuring", total=workload.rounds * len(contestants))
        return measure(contestants, workload, lambda _name, _index: progress.advance(task))


def _print(
    measured: Sequence[Measurement], comparisons: Sequence[Comparison], compiled_in: float | None, as_json: bool
) -> None:
    if as_json:
        listed: list[Json] = [each.to_json() for each in measured]
        print_json({"compile_s": compiled_in, "results": listed, "comparisons": [each.to_json() for each in comparisons]})
        return
    rows = [
        (
            each.name,
            seconds(compiled_in) if compiled_in is not None and index == 0 else "–",
            f"{each.load_ms:.1f}",
            f"{each.first_run_ms:.3f}",
            f"{each.p50:.3f}",
            f"{each.p90:.3f}",
            f"{each.p99:.3f}",
            f"{each.throughput:.1f}",
            f"{each.peak_memory:.0f}",
            "–" if each.error is None else f"{each.error:.1e}",
        )
        for index, each in enumerate(measured)
    ]
    columns = ("", "compile", "load ms", "first ms", "p50 ms", "p90 ms", "p99 ms", "runs/s", "peak MiB", "error")
    print_table(None, columns, rows)
    threads = {each.threads for each in measured}
    print(
        f"threads: {', '.join('engine default' if t is None else str(t) for t in threads)}; one process each, in turns; medians over rounds"
    )
    for each in comparisons:
        print(each)
    if any(each.error is not None and not each.error < 1e-2 for each in measured):
        note("an error that large is no rounding: `irc compare` says more")
