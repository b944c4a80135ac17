"""What may be said about a compilation, as the driver takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from irc.runtime import OptionValue

from .precision.options import Data, Precision, Score
from .verification import Verify


@dataclass(frozen=True)
class CompileOptions:
    """How to compile: every field is a flag of `irc compile`, described there; `inputs` is an `.npz` file to verify with.

    A dim has one size, or is left open and has several for which there is a variant each. `strict` refuses what would run
    elsewhere than asked for: on a second engine, or on the CPU where the target is a GPU. A `precision` is kept within
    `max_error`, the distance from the answers in f32, or within `max_drop` of what the metric says of those, on samples held
    back from `calib`; a `metric` is one of METRICS by name, or a function of outputs by name, and of labels where it takes two.
    `compress` is a pipeline of compressions, each kept within the same bound where it makes the program faster, or `smaller`.
    With weights of 4 bits, so many as `block_size` share a scale, usually INT4_BLOCK.
    """

    target: str = "cpu"
    opt_level: int = 2
    engine: str | None = None
    passes: str | None = None
    load: tuple[str, ...] = ()
    disable: frozenset[str] = frozenset()
    rewrite_limit: int | None = None
    dims: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict[str, int | tuple[int, ...]])
    shapes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict[str, tuple[int | None, ...]])
    verify: Verify = Verify.ANSWERS
    inputs: Path | None = None
    tune_budget: float = 60.0
    strict: bool = False
    engine_options: Mapping[str, OptionValue] = field(default_factory=dict[str, OptionValue])
    precision: Precision | None = None
    max_error: float | None = None
    max_drop: float | None = None
    metric: str | Score | None = None
    calib: Data | None = None
    compress: str | None = None
    smaller: bool = False
    block_size: int | None = None

    @property
    def has_own_passes(self) -> bool:
        """Whether passes or rewrites run that are not those of the level."""
        return self.passes is not None or bool(self.load)
