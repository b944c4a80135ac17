"""`irc bench`: compile, load, first run and steady state apart; with --against, a process each, in turns."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import flags
from .kinds import is_artifact
from .output import Json, note, print_json, print_table, seconds

if TYPE_CHECKING:
    from irc.runtime import Comparison, Contestant, Measurement, SignatureEntry, Workload

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
RooflineFlag = Annotated[
    bool, typer.Option("--roofline", help="Show the share of this machine's limit that each kernel reaches; engine tvm.")
]

_ALL_OR_NONE = "put it into the file of --inputs, or leave that out, and all are made up"


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
    roofline: RooflineFlag = False,
    trust_pickle: flags.TrustFlag = False,
    as_json: flags.JsonFlag = False,
) -> None:
    """Measure a program; what is no artifact is compiled first, and that is measured too."""
    from irc.runtime import Workload, compare

    from .feeds import check_complete, check_dims, one_size_each, read_feeds

    _check_files(model, against or ())
    sizes = one_size_each(dim or [])
    if roofline:
        _roofline(model, against, archive, dim or [], seed, level, threads, rounds * duration, trust_pickle, as_json)
        return
    with tempfile.TemporaryDirectory(prefix="irc-bench-") as folder:
        artifact, compiled_in, inputs, examples = _compiled(model, level, threads, trust_pickle, Path(folder))
        check_dims(inputs, sizes)
        if archive is not None:
            check_complete(inputs, read_feeds(None, archive, inputs), _ALL_OR_NONE)
        elif not sizes:
            archive = examples
        contestants = _contestants(artifact, against or ())
        workload = Workload(inputs=archive, dims=sizes, seed=seed, threads=threads, rounds=rounds, seconds=duration)
        files = {each.name: path for each, path in zip(contestants, [model, *(against or ())], strict=True)}
        workload = _with_reference(workload, contestants, files, Path(folder) / "reference.npz")
        with _told_by_file(files):
            measured = _with_progress(contestants, workload)
    first = measured[0]
    comparisons = [compare(first.name, first.times, each.name, each.times) for each in measured[1:]]
    _print(measured, comparisons, compiled_in, as_json)


def _roofline(
    model: Path,
    against: Sequence[Path] | None,
    archive: Path | None,
    dim: list[str],
    seed: int,
    level: int,
    threads: int | None,
    duration: float,
    trust_pickle: bool,
    as_json: bool,
) -> None:
    """Measure the kernels of an artifact, or of a model compiled to kernels of our own."""
    from irc.ir import UsageError

    from .feeds import check_complete, one_size_each, random_feeds, read_feeds
    from .models import open_program
    from .options import compile_options, engine_settings
    from .roofline import print_roofline, roofline

    if against:
        raise UsageError("--roofline measures one program against the machine", hint="leave out --against, or --roofline")
    compiled = not is_artifact(model)
    settings = engine_settings(threads)
    if compiled:
        options = compile_options(engine="tvm", level=level, dim=dim, settings=settings)
    else:
        options = compile_options(settings=settings)
    program, examples = open_program(model, options, trust_pickle)
    with program, tempfile.TemporaryDirectory(prefix="irc-bench-") as folder:
        given = examples if archive is None else read_feeds(None, archive, program.inputs)
        if archive is not None:
            check_complete(program.inputs, given, _ALL_OR_NONE)
        feeds = random_feeds(program.inputs, seed, {} if compiled else one_size_each(dim), given)
        if compiled:
            program.save(Path(folder, "model.irc"))
        place = Path(folder, "model.irc") if compiled else model
        print_roofline(roofline(place, feeds, duration, threads, str(model)), str(model), as_json)


def _check_files(model: Path, against: Sequence[Path]) -> None:
    """Refuse a file that is not there, and a PyTorch program to measure against. Raises UsageError."""
    from irc.ir import UsageError

    from .factories import is_torch_model

    for path in (model, *against):
        if is_torch_model(path):
            continue
        if not path.exists():
            raise UsageError(f"there is no file '{path}'", hint="give an .onnx model or an .irc artifact")
    for path in filter(is_torch_model, against):
        hint = f"`irc compile {path} -o other.irc` makes an artifact; --against other.irc measures it"
        raise UsageError(f"--against takes an artifact or an ONNX model, and '{path}' is a PyTorch program", hint=hint)


def _contestants(artifact: Path, against: Sequence[Path]) -> list[Contestant]:
    """What is measured, each under a name of its own."""
    from irc.runtime import Contestant

    found = [Contestant("irc", artifact)]
    for path in against:
        name = plain = path.stem if is_artifact(path) else "onnxruntime"
        number = 1
        while name in (each.name for each in found):
            number += 1
            name = f"{plain} {number}"
        found.append(Contestant(name, path))
    return found


def _compiled(
    path: Path, level: int, threads: int | None, trust_pickle: bool, folder: Path
) -> tuple[Path, float | None, Sequence[SignatureEntry], Path | None]:
    """The artifact to measure, the seconds it took if it was made here, its inputs, and an `.npz` of examples of them."""
    if is_artifact(path):
        from irc.runtime import open_artifact

        return path, None, open_artifact(path).manifest.inputs, None
    from .feeds import write_archive
    from .models import open_model
    from .options import compile_options, engine_settings
    from .reporting import warn_of_failures

    start = time.perf_counter()
    model = open_model(path, trust_pickle)
    compiled = model.compile(compile_options(level=level, settings=engine_settings(threads)))
    place = folder / "model.irc"
    compiled.program.save(place)
    spent = time.perf_counter() - start
    compiled.program.close()
    warn_of_failures(compiled)
    examples = folder / "examples.npz" if model.examples else None
    if examples is not None:
        write_archive(examples, model.examples)
    return place, spent, compiled.program.inputs, examples


def _with_reference(
    workload: Workload, contestants: Sequence[Contestant], files: Mapping[str, Path], outputs: Path
) -> Workload:
    """The workload with the answers of the first ONNX file to measure errors from, if there is one.

    `files` are what the user calls the contestants. Raises UsageError for one whose inputs or outputs have other names.
    """
    from irc.runtime import Contestant, measure_reference

    from .factories import is_torch_model

    model = next((path for path in files.values() if not is_torch_model(path) and not is_artifact(path)), None)
    if model is None:
        return workload
    for each in contestants:
        _check_alike(model, each.path, files[each.name])
    with _told_by_file({"reference": model}):
        measure_reference(Contestant("reference", model, optimize=False), workload, outputs)
    return replace(workload, reference=outputs)


def _check_alike(model: Path, path: Path, told_as: Path) -> None:
    """Refuse what the answers of `model` say nothing about, because inputs or outputs have other names. Raises UsageError."""
    from irc.ir import UsageError

    for kind, wanted, found in zip(("inputs", "outputs"), _names(model), _names(path), strict=True):
        if sorted(wanted) != sorted(found):
            listed = f"{', '.join(found) or 'none'} against {', '.join(wanted) or 'none'}"
            raise UsageError(
                f"'{told_as}' and '{model}' have different {kind}: {listed}",
                hint="errors are measured between forms of one model; for times alone, `irc compile` both and give the two",
            )


def _names(path: Path) -> tuple[list[str], list[str]]:
    """The names of the inputs that have to be fed, and of the outputs."""
    if not is_artifact(path):
        from irc.ir.capture import names_in_file

        return names_in_file(path)
    from irc.runtime import open_artifact

    manifest = open_artifact(path).manifest
    return [each.name for each in manifest.inputs if not each.optional], [each.name for each in manifest.outputs]


@contextmanager
def _told_by_file(files: Mapping[str, Path]) -> Generator[None]:
    """What a contestant fails with is told of its file: its name in the table says little, and `irc` nothing."""
    from irc.runtime import EngineFailure

    try:
        yield
    except EngineFailure as error:
        if error.location is None or error.location not in files:
            raise
        raise EngineFailure(error.message, location=str(files[error.location]), hint=error.hint) from error


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
    from irc.runtime import FEWEST_ROUNDS

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
    threads = ", ".join(sorted({"engine default" if each.threads is None else str(each.threads) for each in measured}))
    print(f"threads: {threads}; one process each, in turns; medians over rounds")
    for each in comparisons:
        print(each)
    if comparisons and any(len(each.times) < FEWEST_ROUNDS for each in measured):
        note(f"fewer than {FEWEST_ROUNDS} rounds decide nothing; give --rounds")
    if any(each.error is not None and not each.error < 1e-2 for each in measured):
        note("an error that large is no rounding: `irc compare` says more")
