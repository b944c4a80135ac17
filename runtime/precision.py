"""What a manifest says of lowered precision: what was asked for, what was reached, and what each kind of contraction became."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from .strict_json import Fields, Json


@dataclass(frozen=True, slots=True)
class PrecisionRow:
    """A program that was made: its error, its time in milliseconds and its bytes, None where it did not come to that.

    `error` is the relative L2 distance from the model in f32 on inputs held back, `loss` what the metric that was asked for
    says of it; `fate` is what became of it.
    """

    name: str
    error: float | None
    loss: float | None
    milliseconds: float | None
    bytes: int | None
    fate: str

    def to_json(self) -> Json:
        """As JSON; an infinite error is None."""
        numbers: dict[str, Json] = {"error": _finite(self.error), "loss": _finite(self.loss), "milliseconds": self.milliseconds}
        return {"name": self.name, **numbers, "bytes": self.bytes, "fate": self.fate}

    @staticmethod
    def from_json(fields: Fields) -> PrecisionRow:
        """From JSON; raises ArtifactError where it is none."""
        error, loss, time, size = (fields.optional_number(each) for each in ("error", "loss", "milliseconds", "bytes"))
        return PrecisionRow(fields.text("name"), error, loss, time, None if size is None else int(size), fields.text("fate"))


@dataclass(frozen=True, slots=True)
class PrecisionChoice:
    """What the contractions of one pattern became.

    `place` is where the first of the `count` stands; `form` the word for their precision; `saved` the milliseconds that it was
    measured to save, `error` the relative L2 distance that it alone makes; `why` says why it is not another.
    """

    pattern: str
    place: str
    count: int
    form: str
    saved: float | None = None
    error: float | None = None
    why: str = ""

    def to_json(self) -> Json:
        """As JSON; an infinite error is None."""
        numbers: dict[str, Json] = {"saved": self.saved, "error": _finite(self.error)}
        named: dict[str, Json] = {"pattern": self.pattern, "place": self.place, "count": self.count, "form": self.form}
        return {**named, **numbers, "why": self.why}

    @staticmethod
    def from_json(fields: Fields) -> PrecisionChoice:
        """From JSON; raises ArtifactError where it is none."""
        named = fields.text("pattern"), fields.text("place"), fields.natural("count"), fields.text("form")
        return PrecisionChoice(*named, fields.optional_number("saved"), fields.optional_number("error"), fields.text("why"))


@dataclass(frozen=True, slots=True)
class PrecisionReport:
    """How a program came to its precision.

    `asked` is the word of `--precision` (`f32`: none was asked for), `metric` what `limit` bounds (None: nothing was bounded),
    `met` whether it was kept; `inputs` says on what it was measured. `compress` is the text of `--compress`, whose steps have
    the first rows.
    """

    asked: str
    metric: str
    limit: float | None
    met: bool
    inputs: str
    rows: tuple[PrecisionRow, ...]
    choices: tuple[PrecisionChoice, ...]
    compress: str = ""

    @property
    def wanted(self) -> str:
        """What was asked for."""
        return f"{self.asked} after {self.compress}" if self.compress else self.asked

    def to_json(self) -> Json:
        """As JSON."""
        asked: dict[str, Json] = {"asked": self.asked, "metric": self.metric, "limit": self.limit, "met": self.met}
        rows: list[Json] = [each.to_json() for each in self.rows]
        told: dict[str, Json] = {"rows": rows, "choices": [each.to_json() for each in self.choices]}
        return {**asked, "inputs": self.inputs, **told, "compress": self.compress or None}

    @staticmethod
    def from_json(fields: Fields) -> PrecisionReport:
        """From JSON; raises ArtifactError where it is none."""
        return PrecisionReport(
            fields.text("asked"),
            fields.text("metric"),
            fields.optional_number("limit"),
            fields.flag("met"),
            fields.text("inputs"),
            fields.objects("rows", PrecisionRow.from_json),
            fields.objects("choices", PrecisionChoice.from_json),
            fields.optional_text("compress") or "",
        )


def _finite(number: float | None) -> float | None:
    return number if number is not None and isfinite(number) else None
