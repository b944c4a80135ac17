"""What the command line prints: tables for people, JSON for programs, errors in one sentence on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TypeAlias

Json: TypeAlias = "str | int | float | bool | None | list[Json] | dict[str, Json]"


class Failure(Exception):  # noqa: N818  # a check that failed, not an error of the program
    """A check failed: the result was printed, and the command ends with exit code 1."""

    exit_code = 1
    hint: str | None = None
    location: str | None = None

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def complain(message: str, hint: str | None) -> None:
    """Write one error to stderr."""
    text = message.rstrip()
    print(
        f"irc: error: {text}" + (f" ({hint})" if hint and "\n" not in text else f"\n  {hint}" if hint else ""),
        file=sys.stderr,
    )


def note(message: str) -> None:
    """Write a remark to stderr, so that stdout stays what was asked for."""
    print(f"irc: {message}", file=sys.stderr)


def print_json(value: Json) -> None:
    """Write a result as JSON to stdout."""
    print(json.dumps(value, indent=1, allow_nan=True))


def print_table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table; numbers are aligned to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", show_edge=False)
    listed = [list(row) for row in rows]
    for index, column in enumerate(columns):
        numeric = bool(listed) and all(isinstance(row[index], (int, float)) or _looks_numeric(row[index]) for row in listed)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        table.add_row(*(Text(str(cell)) for cell in row))
    width = None if sys.stdout.isatty() else 160
    Console(width=width, highlight=False).print(table)


def _looks_numeric(cell: object) -> bool:
    text = str(cell).strip()
    return not text or text == "–" or text[0].isdigit() or (text[0] == "-" and text[1:2].isdigit())


def seconds(value: float) -> str:
    """A duration as people read it."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"


def size(count: int) -> str:
    """A number of bytes as people read it."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.2f} GiB"
