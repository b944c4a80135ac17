"""What may be asked of precision, and what of it makes no sense; said before any work is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from irc.ir import UsageError

if TYPE_CHECKING:
    from irc.passes.precision import Form

    from ..options import CompileOptions

Score: TypeAlias = "Callable[..., float]"
"""A user's metric: from the outputs for all samples held back, and the labels beside them where it takes two, arrays by name,
to a number that is better high."""

Data: TypeAlias = "str | Path | Iterable[Mapping[str, Any]]"
"""Samples to calibrate with: an `.npz` file, a folder, or dicts of what a program is fed."""

INT4_BLOCK = 32
"""Weights of 4 bits that share a scale where nothing is said: GGUF's block, and one that all engines have kernels for."""
BLOCK_SIZES = (16, 32, 64, 128, 256)
"""How many there may be: those of ONNX Runtime's `MatMulNBits`."""
DEFAULT_ERROR = 1e-2
"""The error that `auto` keeps where nothing is said: about what half-precision kernels make of a deep model."""


class Precision(Enum):
    """What may be asked for; the value is the word for it."""

    AUTO = "auto"  # each kind of contraction by itself, by what it saves and by the error it makes
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"
    INT8_WEIGHTS = "int8-weights"
    INT4_WEIGHTS = "int4-weights"

    @property
    def form(self) -> Form | None:
        """The form that every contraction gets, None where each has its own."""
        from irc.passes.precision import Form  # with the passes: what is asked for can be checked without them

        return None if self is Precision.AUTO else Form("f16" if self is Precision.FP16 else self.value)

    @staticmethod
    def named(word: str) -> Precision:
        """The precision a word stands for. Raises UsageError for any other word."""
        for each in Precision:
            if word == each.value:
                return each
        raise UsageError(f"there is no precision '{word}'", hint=f"it is one of {', '.join(each.value for each in Precision)}")


def check_precision(options: CompileOptions) -> None:
    """Raise UsageError for what was asked of precision and cannot be."""
    if options.smaller and options.compress is None:
        hint = "add --compress share-weights"
        raise UsageError("--smaller is about compression, and none is asked for", hint=hint)
    if options.block_size is not None and options.precision is not Precision.INT4_WEIGHTS:
        raise UsageError("--block-size is about weights of 4 bits, and none are asked for", hint="add --precision int4-weights")
    if options.block_size not in (None, *BLOCK_SIZES):
        text = f"{options.block_size!r} is nothing that --block-size can be"
        raise UsageError(text, hint=f"use one of {', '.join(map(str, BLOCK_SIZES))}")
    if options.precision is None and options.compress is None:
        given = {"a bound on the error": options.max_error, "a bound on the drop": options.max_drop, "a metric": options.metric}
        named = [name for name, value in {**given, "data to calibrate with": options.calib}.items() if value is not None]
        if named:
            raise UsageError(f"{named[0]} was given, but no precision", hint="add --precision auto, or --compress")
        return
    if options.opt_level < 2:
        flag = "--compress" if options.precision is None else "--precision"
        text = f"{flag} changes answers, which O{options.opt_level} does not allow"
        raise UsageError(text, hint="use -O2 or -O3")
    if options.precision is Precision.AUTO and (options.opt_level < 3 or not options.tune_budget):
        hint = "use -O3, or name one precision"
        raise UsageError("--precision auto decides by measuring, and nothing is measured here", hint=hint)
    if options.compress is not None:
        from .steps import steps_of  # with the passes: what else is asked for can be checked without them

        steps_of(options.compress)
    _check_bounds(options)


def _check_bounds(options: CompileOptions) -> None:
    for flag, bound in (("--max-error", options.max_error), ("--max-drop", options.max_drop)):
        if bound is not None and not (isinstance(bound, (int, float)) and isfinite(bound) and bound >= 0):  # type: ignore[reportUnnecessaryIsInstance]  # Python's callers may give text
            raise UsageError(f"{bound!r} is nothing {flag} can be", hint="give a number that is not negative, such as 1e-2")
    if options.max_drop is not None and options.max_error is not None:
        raise UsageError("--max-error and --max-drop are two bounds for one search", hint="give one of them")
    if options.max_drop is not None and options.metric is None:
        raise UsageError("--max-drop bounds what a metric says, and there is none", hint="add --metric FILE.py:NAME")
    if callable(options.metric) and options.max_drop is None:
        other = "" if options.max_error is None else ", and --max-error bounds a distance"
        raise UsageError(f"a metric of your own needs a bound{other}", hint="use --max-drop 0.5%")
