"""`irc compare`: two models on the same inputs, output by output, with a verdict and an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from . import flags
from .output import Failure, print_json, print_table

if TYPE_CHECKING:
    from irc.runtime import Program, SignatureEntry

OtherArgument = Annotated[Path, typer.Argument(metavar="OTHER", help="What to compare with it.")]
ToleranceFlag = Annotated[float, typer.Option("--tolerance", help="Largest relative L2 distance of a float output.")]
TrialsFlag = Annotated[int, typer.Option("--trials", min=1, help="How many random inputs, when none are given.")]


@dataclass(frozen=True)
class Difference:
    """How far one output of the second model is from the first's, at worst over all trials.

    `relative` is the relative L2 distance in float64, `largest` the largest absolute difference of one element, `cosine` the
    cosine of the angle between them, `same_argmax` the share of equal positions of the largest element along the last axis.
    """

    output: str
    relative: float
    largest: float
    cosine: float
    same_argmax: float
    note: str = ""

    def agrees(self, tolerance: float, is_float: bool) -> bool:
        """Whether this is within bounds: the tolerance for floats, one step for integers."""
        return not self.note and (self.relative <= tolerance if is_float else self.largest <= 1)


def compare_command(
    model: flags.AnyModelArgument,
    other: OtherArgument,
    inputs: flags.InputFlag = None,
    archive: flags.InputsFlag = None,
    dim: flags.DimFlag = None,
    seed: flags.SeedFlag = 0,
    trials: TrialsFlag = 3,
    tolerance: ToleranceFlag = 1e-4,
    as_json: flags.JsonFlag = False,
) -> None:
    """Compare the answers of two models; an .onnx file is run as it is, by the reference (ONNX Runtime without optimizations)."""
    from irc.ir import UsageError, parse_dims

    from .feeds import random_feeds, read_feeds

    with reference_program(model) as first, reference_program(other) as second:
        names = [entry.name for entry in first.outputs]
        if names != [entry.name for entry in second.outputs] or [e.name for e in first.inputs] != [
            e.name for e in second.inputs
        ]:
            raise UsageError(
                "the models have different inputs or outputs, so they cannot be compared",
                hint="compare two forms of one model",
            )
        given = read_feeds(inputs or [], archive, first.inputs)
        complete = {e.name for e in first.inputs if not e.optional} <= set(given)
        worst: dict[str, Difference] = {}
        for trial in range(1 if complete else trials):
            feeds = random_feeds(first.inputs, seed + trial, parse_dims(dim or []), given)
            before, after = first.run(feeds), second.run(feeds)
            for name in names:
                found = difference(name, before[name], after[name])
                if name not in worst or found.note or not found.relative <= worst[name].relative:
                    worst[name] = found
        random = random_outputs_of(model, other)
    floats = {entry.name: entry.dtype.startswith(("f", "bf")) for entry in first.outputs}
    bad = [d for d in worst.values() if d.output not in random and not d.agrees(tolerance, floats[d.output])]
    _print(list(worst.values()), bad, random, as_json)
    if bad:
        raise Failure(
            f"{len(bad)} of {len(worst)} outputs differ by more than {tolerance:g}, first '{bad[0].output}'",
            "see the table; `irc compile -O1` keeps every bit",
        )


def _print(found: Sequence[Difference], bad: Sequence[Difference], random: set[str], as_json: bool) -> None:
    verdict = {d.output: "differs" if d in bad else "random" if d.output in random else "agrees" for d in found}
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


def reference_program(model: Path) -> Program:
    """An artifact's program, or an ONNX model as it stands: no passes, no engine optimizations."""
    from .running import open_program

    if model.suffix != ".onnx":
        return open_program(model, None)
    from irc.lowering import CompileOptions, compile_model

    return compile_model(model, CompileOptions(opt_level=0)).program


def difference(name: str, before: Any, after: Any) -> Difference:
    """How far `after` is from `before`, in float64. Where both are NaN or the same Inf they agree."""
    if not isinstance(before, np.ndarray) or not isinstance(after, np.ndarray):
        same = _same_structure(before, after)
        return Difference(name, 0.0 if same else float("inf"), 0.0 if same else float("inf"), float(same), float(same))
    if before.shape != after.shape or before.dtype != after.dtype:
        return Difference(
            name,
            float("inf"),
            float("inf"),
            0.0,
            0.0,
            f"{after.dtype}{list(after.shape)} instead of {before.dtype}{list(before.shape)}",
        )
    if before.dtype.kind in "OSU":
        same = bool(np.array_equal(before, after))
        return Difference(name, float(not same), float(not same), float(same), float(same))
    kind = np.complex128 if before.dtype.kind == "c" else np.float64
    x, y = before.astype(kind).reshape(-1), after.astype(kind).reshape(-1)
    unequal = ~((x == y) | (np.isnan(x) & np.isnan(y)))
    if not np.isfinite(x[unequal]).all() or not np.isfinite(y[unequal]).all():
        return Difference(name, float("inf"), float("inf"), 0.0, 0.0, "NaN or Inf in other places")
    with np.errstate(invalid="ignore"):
        gap = np.where(unequal, x - y, 0)
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    norm = float(np.linalg.norm(x))
    relative = float(np.linalg.norm(gap)) / norm if norm else float(np.linalg.norm(gap))
    scale = norm * float(np.linalg.norm(y))
    cosine = float(np.real(np.vdot(x, y))) / scale if scale else 1.0
    return Difference(name, relative, float(np.abs(gap).max(initial=0.0)), min(cosine, 1.0), _same_argmax(before, after))


def _same_argmax(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> float:
    if before.ndim == 0 or before.size == 0 or before.dtype.kind == "c":
        return 1.0
    wide = before.astype(np.float64), after.astype(np.float64)
    return float(np.mean(wide[0].argmax(-1) == wide[1].argmax(-1)))


def _same_structure(before: Any, after: Any) -> bool:
    if isinstance(before, list) and isinstance(after, list):
        pairs = zip(before, after, strict=False)
        return len(before) == len(after) and all(_same_structure(a, b) for a, b in pairs)
    if isinstance(before, np.ndarray) and isinstance(after, np.ndarray):
        return before.shape == after.shape and bool(np.array_equal(before, after, equal_nan=before.dtype.kind in "fc"))
    return bool(before == after)


def random_outputs_of(model: Path, other: Path) -> set[str]:
    """The outputs that depend on an op that draws random numbers, as far as one of the two is an ONNX model."""
    from irc.ir import capture
    from irc.lowering import random_outputs

    source = next((path for path in (model, other) if path.suffix == ".onnx"), None)
    return set() if source is None else random_outputs(capture(source))
