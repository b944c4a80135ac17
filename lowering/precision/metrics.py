"""How far answers are from those of the model in f32: one row of METRICS each way to say it, or a function of the user's.

Law: a loss is 0 for the model's own answers, and larger is worse.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any, TypeAlias, cast

import numpy as np

from irc.ir import UsageError, closest

from ..calibration.layouts import LABELS
from .options import Score

Array: TypeAlias = "np.ndarray[Any, Any]"
Answers: TypeAlias = "Sequence[Mapping[str, Any]]"
"""Outputs by name, for one sample after another; of labels, arrays by name."""
Loss: TypeAlias = "Callable[[Answers, Answers], float]"
"""The distance of answers, which come second, from those that are wanted."""


@dataclass(frozen=True)
class Metric:
    """A way to say how far answers are off, and the name it has in reports."""

    name: str
    loss: Loss


def relative_l2(wanted: Answers, got: Answers) -> float:
    """The relative L2 distance over all inputs, of the worst output; infinite where shapes or types differ.

    Of outputs that are no floats the share of elements that differ; they count only where there are no others.
    """
    return _worst(wanted, got, _relative_l2)


def cosine_distance(wanted: Answers, got: Answers) -> float:
    """One minus the cosine over all inputs, of the worst output."""
    return _worst(wanted, got, _one_minus_cosine)


def top_1_disagreement(wanted: Answers, got: Answers) -> float:
    """The share of rows whose largest element is another, of the worst output; a row is what the last axis holds."""
    return _worst(wanted, got, _other_places)


METRICS: dict[str, Metric] = {
    "l2": Metric("relative L2", relative_l2),
    "cosine": Metric("1 - cosine", cosine_distance),
    "top1": Metric("top-1 disagreement", top_1_disagreement),
}


def metric_of(asked: str | Score | None, labels: Answers = ()) -> Metric:
    """The metric asked for, by default relative L2; `labels` lie beside the samples. Raises UsageError for no metric."""
    if callable(asked):
        return Metric(f"drop of {getattr(asked, '__name__', 'metric')}", _drop_of(asked, labels))
    name = "l2" if asked is None else asked
    if name not in METRICS:
        hint = closest(name, list(METRICS)) or f"it is one of {', '.join(METRICS)}, or FILE.py:NAME"
        raise UsageError(f"there is no metric '{name}'", hint=hint)
    return METRICS[name]


def _drop_of(score: Score, labels: Answers) -> Loss:
    beside = (_Arrays(joined(labels), "label"),) if _takes_two(score) else ()

    def drop(wanted: Answers, got: Answers) -> float:
        return _scored(score, wanted, *beside) - _scored(score, got, *beside)

    return drop


class _Arrays(dict[str, Any]):
    """Arrays by name for a user's function; one that is not there is told of by what it was to be: an output, or a label."""

    def __init__(self, arrays: Mapping[str, Any], kind: str) -> None:
        super().__init__(arrays)
        self.kind = kind

    def __missing__(self, name: object) -> Any:
        raise _NoArrayError(name, self)


class _NoArrayError(KeyError):
    """Still a KeyError: the function may try one name after another."""

    def __init__(self, name: object, arrays: _Arrays) -> None:
        super().__init__(name)
        self.arrays = arrays

    def sentence(self, metric: str) -> tuple[str, str]:
        """What is wrong, and the way out."""
        kind, known = self.arrays.kind, ", ".join(self.arrays)
        place = {"label": "beside the samples", "output": "among those of the model"}[kind]
        none = f"there are none: --calib takes arrays called {', '.join(LABELS)} beside those for the inputs"
        return (
            f"the metric {metric} asks for the {kind} {self.args[0]!r}, which is not {place}",
            f"there is {known}" if known else none,
        )


def _takes_two(score: Score) -> bool:
    try:
        inspect.signature(score).bind({}, {})
    except TypeError:
        return False
    return True


def _scored(score: Score, answers: Answers, *beside: Mapping[str, Any]) -> float:
    """What a user's function says of answers. Raises UsageError where it fails or says no number."""
    name = getattr(score, "__name__", "metric")
    try:
        found = float(score(_Arrays(joined(answers), "output"), *beside))
    except _NoArrayError as error:
        message, hint = error.sentence(name)
        raise UsageError(message, hint=hint) from error
    except Exception as error:  # whatever the user's function raises, it is the function that has to be mended
        hint = "it gets the outputs for the samples held back, arrays by name, and the labels beside them where it takes two"
        raise UsageError(f"the metric {name} failed: {type(error).__name__}: {error}", hint=hint) from error
    if not isfinite(found):
        raise UsageError(f"the metric {name} says {found}", hint="it has to return a finite number")
    return found


def joined(answers: Answers) -> dict[str, Any]:
    """Each array for all samples, put together along the first axis, one for each sample where there is none; else a list."""
    names: Sequence[str] = list(answers[0]) if answers else []
    return {name: _joined([each[name] for each in answers]) for name in names}


def _joined(parts: list[Any]) -> Any:
    arrays: list[Array] = [np.atleast_1d(cast("Any", part)) for part in parts if isinstance(part, np.ndarray | np.generic)]
    fits = len(arrays) == len(parts) and len({array.shape[1:] for array in arrays}) == 1
    return np.concatenate(arrays) if fits else parts


def _worst(wanted: Answers, got: Answers, apart: Callable[[Sequence[Array], Sequence[Array]], float]) -> float:
    names: Sequence[str] = list(wanted[0]) if wanted else []
    floats = [name for name in names if _is_float(wanted[0][name])]
    worst = 0.0
    for name in floats or names:
        first, second = [each[name] for each in wanted], [each[name] for each in got]
        if not floats:
            worst = max(worst, _share_of_others(first, second))
        elif not all(map(_comparable, first, second)):
            return float("inf")
        else:
            worst = max(worst, apart(first, second))
    return worst


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and cast("Array", value).dtype.kind in "fV"


def _comparable(wanted: Array, got: Any) -> bool:
    return isinstance(got, np.ndarray) and (wanted.shape, wanted.dtype) == (cast("Array", got).shape, cast("Array", got).dtype)


def _share_of_others(wanted: Sequence[Any], got: Sequence[Any]) -> float:
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(wanted, got, strict=True)]
    if any(a.shape != b.shape for a, b in pairs):
        return float("inf")
    return sum(int((a != b).sum()) for a, b in pairs) / max(1, sum(a.size for a, _ in pairs))


def _relative_l2(wanted: Sequence[Array], got: Sequence[Array]) -> float:
    gap = norm = 0.0
    for a, b in zip(wanted, got, strict=True):
        more, size = _squares(a, b)
        gap, norm = gap + more, norm + size
    if not isfinite(gap):
        return float("inf")  # NaN or Inf lie elsewhere
    return sqrt(gap / norm) if norm else sqrt(gap)


def _squares(wanted: Array, got: Array) -> tuple[float, float]:
    """The sums of squares of the differences and of what is wanted; NaN and Inf at the same places do not count."""
    x, y = wanted.astype(np.float64).reshape(-1), got.astype(np.float64).reshape(-1)
    with np.errstate(invalid="ignore"):
        size, apart = float(np.vdot(x, x)), y - x
    gap = float(np.vdot(apart, apart))
    if isfinite(gap) and isfinite(size):
        return gap, size
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    return float(np.square(np.where(same, 0.0, x - y)).sum()), float(np.square(x[np.isfinite(x)]).sum())


def _one_minus_cosine(wanted: Sequence[Array], got: Sequence[Array]) -> float:
    both, first, second = (_dot(*pair) for pair in ((wanted, got), (wanted, wanted), (got, got)))
    if not isfinite(both + first + second):
        return float("inf")
    if not first or not second:
        return 0.0 if first == second else 1.0
    return max(0.0, 1.0 - both / sqrt(first * second))


def _dot(first: Sequence[Array], second: Sequence[Array]) -> float:
    return sum(float(np.vdot(a.astype(np.float64), b.astype(np.float64))) for a, b in zip(first, second, strict=True))


def _other_places(wanted: Sequence[Array], got: Sequence[Array]) -> float:
    rows = other = 0
    for a, b in zip(wanted, got, strict=True):
        if a.ndim and a.size:
            first, second = a.argmax(-1), b.argmax(-1)
            rows, other = rows + first.size, other + int((first != second).sum())
    return other / rows if rows else 0.0
