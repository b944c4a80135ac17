"""The page on a precision: each program's error against its time, as large as its files, and what each contraction became.

Law: it needs nothing else and has no script; whatever stems from the model is text, written in ASCII, and never markup.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from math import floor, isfinite, log10
from typing import TYPE_CHECKING

from .data import bytes_text

if TYPE_CHECKING:
    from irc.runtime import PrecisionReport, PrecisionRow

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 20, 44
LEAST_ERROR = 1e-8
LARGEST_DISC, SMALLEST_DISC = 18.0, 5.0
_STYLE = """:root{color-scheme:light dark;--ink:#1b2230;--dim:#5b6677;--line:#d8dde5;--paper:#f6f7f9;--kept:#0b7a4b;
--other:#2a5db0;--bound:#b5470b}
@media (prefers-color-scheme:dark){:root{--ink:#e4e8ef;--dim:#9aa5b5;--line:#303846;--paper:#12151b;--kept:#4ade80;
--other:#6ea8ff;--bound:#fb923c}}
body{margin:24px auto;max-width:960px;padding:0 16px;background:var(--paper);color:var(--ink);
font:14px/1.5 ui-sans-serif,system-ui,sans-serif}
svg{width:100%;height:auto}text{fill:var(--dim);font-size:12px}line{stroke:var(--line)}
circle{fill:var(--other);fill-opacity:.75}circle.kept{fill:var(--kept)}.name{fill:var(--ink)}
.bound{stroke:var(--bound);stroke-dasharray:5 4}
table{border-collapse:collapse;margin:12px 0;width:100%}th,td{padding:3px 10px 3px 0;text-align:left;
border-bottom:1px solid var(--line);overflow-wrap:anywhere}td.n{font-variant-numeric:tabular-nums}"""


def precision_page(report: PrecisionReport, title: str) -> str:
    """One HTML file; the same report gives the same text."""
    style = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    bound = "" if report.limit is None else f", bound {report.limit:.2g} {'kept' if report.met else 'not kept'}"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{style}'\">",
        f"<title>{_text(title)}: precision</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_text(title)}: precision {_text(report.wanted)}</h1>",
        f"<p>{_text(report.metric)} on {_text(report.inputs)}{_text(bound)}. Discs are as large as the files.</p>",
        _chart(report),
        _table(
            ("program", "relative L2", report.metric, "ms", "size", "what became of it"),
            ((r.name, _number(r.error), _number(r.loss), _number(r.milliseconds), _size(r.bytes), r.fate) for r in report.rows),
        ),
        _table(
            ("contraction", "count", "precision", "saves ms", "error", "why", "pattern"),
            ((c.place, str(c.count), c.form, _number(c.saved), _number(c.error), c.why, c.pattern) for c in report.choices),
        ),
        "</body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _chart(report: PrecisionReport) -> str:
    """Discs over time (over bytes where nothing was timed), the better the lower and the more to the left."""
    rows = [each for each in report.rows if each.error is not None]
    if not rows:
        return ""
    is_timed = all(each.milliseconds is not None for each in rows)
    along = [(each.milliseconds if is_timed else each.bytes) or 0.0 for each in rows]
    across = [_magnitude(each.error) for each in rows]
    bound = None if report.limit is None or report.metric != "relative L2" else _magnitude(report.limit)
    high = max(*across, *([] if bound is None else [bound]), -1.0)
    low = min(across) - 0.5
    most = max(along) * 1.15 or 1.0
    largest = max((each.bytes or 0 for each in rows), default=0) or 1

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * value / most

    def y(magnitude: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high + 0.5 - magnitude) / (high + 0.5 - low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="error against {"time" if is_timed else "size"}">']
    for power in range(floor(low) + 1, floor(high + 0.5) + 1):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(power):.1f}" y2="{y(power):.1f}"/>')
        parts.append(f'<text x="8" y="{y(power) + 4:.1f}">1e{power}</text>')
    for value in (most * share for share in (0.0, 0.25, 0.5, 0.75, 1.0)):
        label = f"{value:.3g}" if is_timed else bytes_text(round(value))
        parts.append(f'<text x="{x(value):.1f}" y="{HEIGHT - 24}" text-anchor="middle">{label}</text>')
    if bound is not None:
        parts.append(f'<line class="bound" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(bound):.1f}" y2="{y(bound):.1f}"/>')
    parts += [_disc(each, x(a), y(b), largest) for each, a, b in zip(rows, along, across, strict=True)]
    parts.append(
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{"ms a run" if is_timed else "size"}</text></svg>'
    )
    return "\n".join(parts)


def _magnitude(error: float | None) -> float:
    return log10(max(error if error is not None and isfinite(error) else 1.0, LEAST_ERROR))


def _disc(row: PrecisionRow, x: float, y: float, largest: int) -> str:
    radius = max(SMALLEST_DISC, LARGEST_DISC * ((row.bytes or 0) / largest) ** 0.5)
    kind = ' class="kept"' if row.fate == "kept" else ""
    name = f'<text class="name" x="{x + radius + 4:.1f}" y="{y + 4:.1f}">{_text(row.name)}</text>'
    return f'<circle{kind} cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{_text(row.fate)}</title></circle>{name}'


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{_text(each)}</th>" for each in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _size(count: int | None) -> str:
    return "–" if count is None else bytes_text(count)


def _text(text: str) -> str:
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode()
