"""Precision on the command line: what its flags ask for, and what is told of what came of it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from .output import Failure, Json, print_table, size

if TYPE_CHECKING:
    from irc.lowering import CompileOptions, Score
    from irc.runtime import PrecisionChoice, PrecisionReport

PrecisionFlag = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="WORD",
        help="auto (what is measured to pay, -O3), bf16, fp16, int8, int8-weights or int4-weights.",
    ),
]
MaxErrorFlag = Annotated[
    float | None,
    typer.Option(
        "--max-error", metavar="NUMBER", help="How far answers may be from those in f32, by the metric; of auto 0.01."
    ),
]
MetricFlag = Annotated[
    str | None,
    typer.Option("--metric", metavar="WHAT", help="l2 (relative, the default), cosine, top1, or a function FILE.py:NAME."),
]
MaxDropFlag = Annotated[
    str | None,
    typer.Option("--max-drop", metavar="NUMBER", help="How much less the metric may say than in f32, such as 0.5% or 0.005."),
]
CalibFlag = Annotated[
    Path | None,
    typer.Option("--calib", metavar="DATA", help="Samples: an .npz file, or a folder of .npy or .npz files; else made up."),
]
CompressFlag = Annotated[
    str | None,
    typer.Option(
        "--compress",
        metavar="PIPELINE",
        help='Compressions to try in turn, such as "prune-channels, low-rank"; kept where faster and within the bound (0.01).',
    ),
]
SmallerFlag = Annotated[
    bool, typer.Option("--smaller", help="Keep a compression also where it makes the artifact smaller, though not faster.")
]
BlockSizeFlag = Annotated[
    int | None,
    typer.Option("--block-size", metavar="N", help="With int4-weights: how many weights share a scale, 16 to 256; usually 32."),
]
ParetoFlag = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a page on the precision: error against time and size.")
]

ROW_COLUMNS = ("precision", "error", "ms", "size", "what became of it")
MOST_ALIKE = 5
"""So many kinds of contractions have a row each where nothing but their place tells them apart; more are summed up."""
CHOICE_COLUMNS = ("contraction", "count", "precision", "saves ms", "error", "why")
_FUNCTION = re.compile(r"(?P<file>.+\.py):(?P<name>[^:\\/]+)\Z", re.DOTALL)


def with_precision(
    options: CompileOptions,
    precision: str | None,
    max_error: float | None,
    metric: str | None,
    max_drop: str | None,
    calib: Path | None,
    html: Path | None,
    compress: str | None = None,
    smaller: bool = False,
    block_size: int | None = None,
) -> CompileOptions:
    """The options with what the flags ask of precision. Raises UsageError for what they cannot say."""
    from irc.ir import UsageError
    from irc.lowering import Precision, check_precision

    if html is not None and precision is None and compress is None:
        hint = "add --precision auto, or --compress"
        raise UsageError("--html draws what became of a precision, and none is asked for", hint=hint)
    asked = replace(
        options,
        precision=None if precision is None else Precision.named(precision),
        max_error=max_error,
        max_drop=None if max_drop is None else _drop(max_drop),
        metric=None if metric is None else _metric(metric),
        calib=calib,
        compress=compress,
        smaller=smaller,
        block_size=block_size,
    )
    check_precision(asked)
    return asked


def _drop(text: str) -> float:
    """`0.5%` and `0.005` are the same."""
    from irc.ir import UsageError

    number = text.strip().removesuffix("%")
    try:
        return float(number) / (100 if number != text.strip() else 1)
    except ValueError:
        raise UsageError(f"'{text}' is no drop", hint="use a number such as 0.5% or 0.005") from None


def _metric(text: str) -> str | Score:
    """A name as it is, and the function that FILE.py:NAME stands for; its file is the user's own code, and is run."""
    from irc.ir import UsageError, closest

    found = _FUNCTION.match(text)
    if found is None:
        return text
    file, name = Path(found["file"]), found["name"]
    if not file.is_file():
        raise UsageError(f"there is no file '{file}'", hint="--metric takes FILE.py:NAME")
    spec = importlib.util.spec_from_file_location(f"irc_metric_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise UsageError(f"'{file}' is no Python file", hint="--metric takes FILE.py:NAME")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file raises, it is the file that has to be mended
        raise UsageError(f"it fails to import: {type(error).__name__}: {error}", location=str(file)) from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [each for each, value in vars(module).items() if callable(value)]
        raise UsageError(f"it has no function '{name}'", location=str(file), hint=closest(name, known) or "write one")
    return cast("Score", function)


def print_precision(report: PrecisionReport) -> None:
    """The programs that were made, then what each kind of contraction became."""
    bound = "" if report.limit is None else f", bound {report.limit:.2g} ({'kept' if report.met else 'not kept'})"
    print(f"precision: {report.wanted}; {report.metric} on {report.inputs}{bound}")
    print_table(None, (*ROW_COLUMNS[:2], *_extra(report), *ROW_COLUMNS[2:]), precision_rows(report))
    alike: dict[tuple[str, str], list[int]] = {}
    for each in report.choices:
        if each.saved is None:
            alike.setdefault((each.form, each.why), []).append(each.count)
    summed = {outcome for outcome, counts in alike.items() if not outcome[1] or len(counts) > MOST_ALIKE}
    told = [each for each in report.choices if each.saved is not None or (each.form, each.why) not in summed]
    if told:
        print_table(None, CHOICE_COLUMNS, choice_rows(told))
    for (form, why), counts in ((outcome, alike[outcome]) for outcome in alike if outcome in summed):
        several = f"{sum(counts)} contractions of {len(counts)} kind{'s' if len(counts) > 1 else ''} are"
        print(f"{'1 contraction is' if sum(counts) == 1 else several} {form}" + (f": {why}" if why else ""))
    if report.asked != "f32" and not report.choices:
        none = "no products of matrices and no convolutions that are known to be in f32"
        print(f"the model has {none}, so nothing in it can be {report.asked}")


def _extra(report: PrecisionReport) -> list[str]:
    return [] if report.metric == "relative L2" else [report.metric]


def precision_rows(report: PrecisionReport) -> list[tuple[str, ...]]:
    """The programs as rows of ROW_COLUMNS, with the metric after the error where it is another."""
    return [
        (
            each.name,
            number(each.error, ".1e"),
            *(number(each.loss, ".1e") for _ in _extra(report)),
            number(each.milliseconds, ".3f"),
            "–" if each.bytes is None else size(each.bytes),
            each.fate,
        )
        for each in report.rows
    ]


def choice_rows(choices: Sequence[PrecisionChoice]) -> list[tuple[str, ...]]:
    """What each pattern became, as rows of CHOICE_COLUMNS."""
    return [(c.place, str(c.count), c.form, number(c.saved, ".3f"), number(c.error, ".1e"), c.why) for c in choices]


def number(value: float | None, how: str) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else format(value, how)


def precision_json(report: PrecisionReport | None) -> Json:
    """The report as JSON; null where no precision was asked for."""
    return None if report is None else report.to_json()


def fail_out_of_bounds(report: PrecisionReport | None) -> None:
    """Raise Failure where the bound was not kept, after all is said and saved."""
    if report is None or report.met:
        return
    kept = next((each.name for each in report.rows if each.fate == "kept"), "nothing")
    text = f"{report.wanted} is not within the bound of {report.limit:.2g} by {report.metric}; what was written is {kept}"
    other = "name compressions without their share" if report.compress else "use -O3 --precision auto"
    raise Failure(text, hint=f"allow more, give more --calib data, or {other}")
