"""What the command line prints: tables for people, JSON for programs, errors in one sentence on stderr; and files, whole."""

from __future__ import annotations

import json
import math
import os
import secrets
import sys
import tempfile
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, TypeAlias

INTERRUPTED = 130
"""The exit code of what the keyboard stopped, as shells have it."""

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"


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
    """Write a result as JSON to stdout; JSON has no NaN and no infinity, so these become the strings `nan`, `inf`, `-inf`."""
    print(json.dumps(_plain(value), indent=1, allow_nan=False))


def _plain(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def print_table(
    title: str | None, columns: Sequence[str], rows: Iterable[Sequence[object]], file: TextIO | None = None
) -> None:
    """Write a table, to stdout unless `file` is given; numbers are aligned to the right."""
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
    stream = file or sys.stdout
    console = Console(width=None if stream.isatty() else 160, highlight=False, file=stream)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip(), file=stream)


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


# Files


def check_file(path: Path, flag: str, *inputs: Path) -> None:
    """Refuse a file that cannot be written, before the work for it is done. Raises UsageError.

    `inputs` are the files that are read, the model first: writing onto one would destroy it.
    """
    from irc.ir import UsageError

    if path.is_dir():
        raise UsageError(f"'{path}' is a directory", hint=f"{flag} takes the name of a file")
    for index, each in enumerate(inputs):
        if path.exists() and each.exists() and path.samefile(each):
            what = "read here" if index else "the model itself"
            raise UsageError(f"'{path}' is {what} and would be overwritten", hint=f"give {flag} another name")
    if not path.parent.is_dir():
        raise UsageError(f"there is no directory '{path.parent}' to write '{path.name}' to", hint="make it first")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()  # what permissions say is not all: file systems are read-only
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = f"give {flag} a place that can be written to"
        raise UsageError(f"nothing can be written to the directory '{path.parent}': {reason}", hint=hint) from error


def check_folder(path: Path, flag: str) -> None:
    """Refuse a folder that cannot be one. Raises UsageError."""
    from irc.ir import UsageError

    if path.exists() and not path.is_dir():
        raise UsageError(f"'{path}' is a file", hint=f"{flag} takes the name of a directory")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all. Raises OSError naming `path`."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def naming(path: Path) -> Generator[None]:
    """Let an OSError of the block speak of `path`, not of a temporary file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """A file to write that takes the place of `path` when the block ends well, and is gone when it does not.

    An OSError in the block comes out naming `path`.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with naming(path):
            temporary.touch(exist_ok=False)
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
