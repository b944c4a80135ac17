"""Parsed rules kept between runs, as JSON in the user's cache folder: reading them back is twenty times faster than parsing.

What is kept is keyed by the text of the rules and the grammar, and is data, never code; where it cannot be read or written,
the rules are parsed as if it were not there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import tempfile
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from ..base import Contract
from . import tree
from .tree import Node, Place, RuleTree, ShapeItem

FORMAT = 2
"""Raised whenever a class of tree.py changes, or what is kept beside the tree."""

MOST_KEPT = 64
"""Files of rules kept; beyond that the oldest go."""

_CLASSES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in vars(tree).values()
    if isinstance(kind, type) and (issubclass(kind, Node) or kind is ShapeItem)
}


def cache_folder() -> Path:
    """Where irc keeps what it can make again, by the rules of the runtime's cache.

    It is $IRC_CACHE_DIR, else `irc` in $XDG_CACHE_HOME or ~/.cache.
    """
    own, above = os.environ.get("IRC_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")
    if own or above:
        return Path(own) if own else Path(above or "") / "irc"
    try:
        return Path.home() / ".cache" / "irc"
    except RuntimeError:  # nobody knows this user's home
        return Path(tempfile.gettempdir()) / f"irc-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"


def stored(text: str, name: str) -> list[Any] | None:
    """What was kept for a rule file: a list as `store` was given it, or None."""
    place = _place(text, name)
    try:
        _check(place.parent)
        kept = json.loads(place.read_bytes())
    except (OSError, ValueError):
        return None
    return cast("list[Any]", kept) if isinstance(kept, list) else None


def store(text: str, name: str, rows: list[Any]) -> None:
    """Keep rows of plain data for a rule file; the file appears whole or not at all."""
    place = _place(text, name)
    temporary = place.with_name(f"{place.name}.{os.getpid()}")
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check(place.parent)
        temporary.write_text(json.dumps(rows, separators=(",", ":")), encoding="utf-8")
        temporary.replace(place)
        kept = sorted(place.parent.glob("rules-*.json"), key=lambda path: path.stat().st_mtime)
        for old in kept[:-MOST_KEPT]:
            old.unlink()
    except OSError:
        return  # a read-only home is no reason not to compile


def _check(folder: Path) -> None:
    """Raises PermissionError for a folder of somebody else's, or that everyone may write to: what lies there is believed."""
    status = folder.stat()
    if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or status.st_mode & stat.S_IWOTH):
        raise PermissionError(errno.EPERM, "it is not this user's alone")


def _place(text: str, name: str) -> Path:
    digest = hashlib.sha256(f"{FORMAT}\0{_grammar()}\0{name}\0{text}".encode()).hexdigest()
    return cache_folder() / f"rules-{digest[:32]}.json"


@lru_cache(maxsize=1)
def _grammar() -> str:
    return Path(__file__).with_name("rules.lark").read_text(encoding="utf-8")


def encoded(thing: object) -> Any:
    """A tree as lists: a node is its class's name, then its fields."""
    if isinstance(thing, Place):
        return [thing.line, thing.column, thing.width]
    if isinstance(thing, (Node, ShapeItem)):
        return [type(thing).__name__, *(encoded(getattr(thing, f.name)) for f in fields(thing))]
    if isinstance(thing, tuple):
        return ["", *map(encoded, cast("tuple[object, ...]", thing))]
    return int(thing) if isinstance(thing, Contract) else thing


def decoded(row: Any) -> Any:
    """The tree that `encoded` made a row of."""
    if not isinstance(row, list):
        return row
    head, *rest = cast("list[Any]", row)
    if isinstance(head, int):
        return Place(head, *rest)
    if head == "":
        return tuple(map(decoded, rest))
    return _CLASSES[head](*map(decoded, rest))


def decoded_rule(row: Any) -> RuleTree:
    """The tree of a rule from what was kept of it."""
    made = decoded(row)
    assert isinstance(made, RuleTree)
    return made
