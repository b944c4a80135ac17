"""`irc compare`: two models on the same inputs, output by output, with a verdict and an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import flags
from .kinds import is_artifact
from .output import Failure, print_json, print_table

if TYPE_CHECKING:
    from irc.runtime import Program

    from .differences import Difference
    from .models import Model

OtherArgument = Annotated[Path, typer.Argument(metavar="OTHER", help="What to compare with it.")]
ToleranceFlag = Annotated[
    float | None,
    typer.Option(
        "--tolerance",
        min=0,
        help="Largest relative L2 distance of a float output; of models that stand quantized 0.05, of others 0.0001.",
    ),
]
USUAL_TOLERANCE = 1e-4
TrialsFlag = Annotated[int, typer.Option("--trials", min=1, help="How many random inputs, when not all are given.")]


def compare_command(
    model: flags.AnyModelArgument,
    other: OtherArgument,
    inputs: flags.InputFlag = None,
    archive: flags.InputsFlag = None,
    dim: flags.DimFlag = None,
    seed: flags.SeedFlag = 0,
    trials: TrialsFlag = 3,
    tolerance: ToleranceFlag = None,
    trust_pickle: flags.TrustFlag = False,
    as_json: flags.JsonFlag = False,
) -> None:
    """Compare the answers of two models; what is no artifact is run as it is, by the reference (ONNX Runtime, unoptimized)."""

    from .differences import difference
    from .feeds import one_size_each, random_feeds, read_feeds

    sizes = one_size_each(dim or [])
    sources = _opened(model, trust_pickle), _opened(other, trust_pickle)
    tolerance = _usual_tolerance(sources) if tolerance is None else tolerance
    with _reference_program(sources[0]) as first, _reference_program(sources[1]) as second:
        check_alike(first, second)
        given = read_feeds(inputs or [], archive, first.inputs)
        complete = {e.name for e in first.inputs if not e.optional} <= set(given)
        worst: dict[str, Difference] = {}
        for trial in range(1 if complete else trials):
            feeds = random_feeds(first.inputs, seed + trial, sizes, given)
            before, after = first.run(feeds), second.run(feeds)
            for name in before:
                found = difference(name, before[name], after[name])
                worst[name] = worst[name].worse(found, tolerance) if name in worst else found
        random = _random_outputs(sources)
        way_out = _lossy(first) or _lossy(second) or "`irc compile -O1` keeps every bit"
    bad = [d for d in worst.values() if d.output not in random and not d.agrees(tolerance)]
    _print(list(worst.values()), bad, random, as_json)
    if bad:
        count = f"{len(bad)} of {len(worst)} outputs differ, first '{bad[0].output}'"
        raise Failure(
            f"output '{bad[0].output}' differs" if len(worst) == 1 else count,
            f"floats may differ by {tolerance:g}, integers by 1; {way_out}",
        )


def _lossy(program: Program) -> str | None:
    """How far off a program of lower precision was when it was made, as a clause; None where nothing was to be lost."""
    report = program.manifest.precision
    kept = None if report is None else next((each for each in report.rows if each.fate == "kept"), None)
    if report is None or kept is None or kept.name == "f32" or kept.error is None:
        return None
    return f"{kept.name} was {kept.error:.1e} off on {report.inputs}: give --inputs like these, and that much --tolerance"


def check_alike(first: Program, second: Program) -> None:
    """Refuse to compare programs whose inputs or outputs have different names. Raises UsageError."""
    from irc.ir import UsageError

    for kind, mine, its in (("inputs", first.inputs, second.inputs), ("outputs", first.outputs, second.outputs)):
        names, others = [e.name for e in mine], [e.name for e in its]
        if names != others:
            listed = f"{', '.join(names) or 'none'} against {', '.join(others) or 'none'}"
            raise UsageError(f"the models have different {kind}: {listed}", hint="compare two forms of one model")


def _print(found: Sequence[Difference], bad: Sequence[Difference], random: set[str], as_json: bool) -> None:
    verdict = {d.output: "random" if d.output in random else "differs" if d in bad else "agrees" for d in found}
    if as_json:
        print_json(
            {
                "agrees": not bad,
                "outputs": [
                    {
                        "name": d.output,
                        "relative_l2": d.relative,
                        "max_abs": d.largest,
                        "cosine": d.cosine,
                        "same_argmax": d.same_argmax,
                        "verdict": verdict[d.output],
                        "note": d.note,
                    }
                    for d in found
                ],
            }
        )
        return
    rows = [
        (
            d.output,
            f"{d.relative:.2e}",
            f"{d.largest:.2e}",
            f"{d.cosine:.7f}",
            f"{d.same_argmax:.1%}",
            verdict[d.output] + (f": {d.note}" if d.note else ""),
        )
        for d in found
    ]
    print_table(None, ("output", "relative L2", "max abs", "cosine", "same argmax", "verdict"), rows)


def _opened(path: Path, trust_pickle: bool) -> Path | Model:
    """A model, or the path of an artifact."""
    from .models import open_model

    return path if is_artifact(path) else open_model(path, trust_pickle)


def _reference_program(source: Path | Model) -> Program:
    """An artifact's program, or a model as it stands: no passes, no engine optimizations."""
    from irc.lowering import CompileOptions
    from irc.runtime import load

    return load(source) if isinstance(source, Path) else source.compile(CompileOptions(opt_level=0)).program


def _usual_tolerance(sources: Sequence[Path | Model]) -> float:
    """As near as compiling keeps answers: a model that is quantized before it is compiled may round the other way."""
    from irc.lowering import QUANTIZED_TOLERANCE, is_quantized

    rounds = any(is_quantized(each.graph()) for each in sources if not isinstance(each, Path))
    return QUANTIZED_TOLERANCE if rounds else USUAL_TOLERANCE


def _random_outputs(sources: Sequence[Path | Model]) -> set[str]:
    """The outputs that depend on an op that draws random numbers, in either model."""
    from irc.lowering import random_outputs
    from irc.runtime import open_artifact

    from .inspecting import lowered_graph

    model = next((each for each in sources if not isinstance(each, Path)), sources[0])
    return random_outputs(lowered_graph(open_artifact(model)) if isinstance(model, Path) else model.graph())
