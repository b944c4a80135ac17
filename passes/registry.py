"""All passes, as visible lists: what irc ships, what the levels run, and what a user's file or package adds by name."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard, cast

from irc.ir import Graph, UsageError

from .base import Context, Contract, Pass
from .canonicalize import Canonicalize
from .compression import LowRank, PruneChannels, PruneWeights, ShareWeights
from .cse import CommonSubexpressions
from .dead_code import DeadCode
from .fold_constants import FoldConstants
from .fusion import Fuse, Unfuse
from .language import read_rules
from .layout import Layout
from .merge_products import MergeProducts
from .pipeline import parse_pipeline
from .precision import Narrow, QuantizeDynamically, QuantizeWeights
from .rewriter import Rewriter, Rule
from .rules import Rules

PASSES: tuple[type[Pass], ...] = (
    DeadCode,
    FoldConstants,
    CommonSubexpressions,
    Canonicalize,
    Rules,
    Layout,
    MergeProducts,
    Fuse,
    Unfuse,
    Narrow,
    QuantizeDynamically,
    QuantizeWeights,
    PruneChannels,
    PruneWeights,
    LowRank,
    ShareWeights,
)

# Folding comes before canonicalization, which reads constants, and after it again, because canonical forms expose new ones.
# Merging comes early, so that equal things are made canonical once, and again when that has made more of them look equal.
# Rules compute with constants by ops, and the numbers that come of it let more of them match.
_FIRST: tuple[Pass, ...] = (
    DeadCode(),
    FoldConstants(),
    CommonSubexpressions(),
    Canonicalize(),
    CommonSubexpressions(),
    FoldConstants(),
)

LEVELS: dict[str, tuple[Pass, ...]] = {
    "O0": (),
    "O1": (
        *_FIRST,
        Rules(strictest=Contract.EXACT.text),
        Layout(strictest=Contract.EXACT.text),
        CommonSubexpressions(),
        DeadCode(),
    ),
    "O2": (*_FIRST, Rules(), Layout(), MergeProducts(), CommonSubexpressions(), DeadCode()),
}
LEVELS["O3"] = LEVELS["O2"]

ENTRY_POINT = "irc.passes"
RULE_SUFFIX = ".rules"


def rule_pass(one: Rule) -> type[Pass]:
    """A pass that runs one rule and is called after it."""

    @dataclass(frozen=True)
    class OneRule(Pass, name=one.name, contract=one.contract):
        def run(self, graph: Graph, context: Context) -> None:
            Rewriter(graph, (one,), context).run()

    OneRule.__doc__ = one.doc
    return OneRule


@dataclass(frozen=True)
class Registry:
    """The passes a pipeline text may name, and the rules among what the user's files and installed packages add."""

    passes: Mapping[str, type[Pass]]
    rules: tuple[Rule, ...] = ()

    def pipeline(self, text: str) -> tuple[Pass, ...]:
        """The passes a text stands for. Raises UsageError pointing into it."""
        return parse_pipeline(text, self.passes, LEVELS)


def registry(files: tuple[str | Path, ...] = ()) -> Registry:
    """Shipped passes, those of installed packages (entry point group `irc.passes`), and those of the user's `files`.

    Importing a file runs it: it is the user's own code. Raises UsageError for a file that is missing, fails to import or
    defines no pass, and for a name that is taken.
    """
    added = [(_additions(entry.load(), entry.name), f"entry point '{entry.name}'") for entry in _entry_points()]
    added += [(_additions(_load(Path(file)), str(file)), str(file)) for file in files]
    taken = {name for kind in PASSES for name in (kind.name, *(row[0] for row in kind.rewrites()))} if added else set[str]()
    found: dict[str, type[Pass]] = {kind.name: kind for kind in PASSES}
    rules: list[Rule] = []
    for additions, where in added:
        for one in additions:
            kind = rule_pass(one) if isinstance(one, Rule) else one
            if kind.name in taken or kind.name in LEVELS:
                raise UsageError(f"there is a pass or rule '{kind.name}' already", location=where, hint="give it another name")
            taken.add(kind.name)
            found[kind.name] = kind
            rules.extend([one] if isinstance(one, Rule) else [])
    return Registry(found, tuple(rules))


def _entry_points() -> importlib.metadata.EntryPoints:
    return importlib.metadata.entry_points(group=ENTRY_POINT)


def _read(path: Path) -> tuple[Rule, ...]:
    if not path.is_file():
        raise UsageError(f"there is no file '{path}'", hint="--load takes a .rules file, or a Python file with passes or rules")
    try:
        return read_rules(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError:
        raise UsageError("it is no text in UTF-8", location=str(path)) from None


def _load(path: Path) -> object:
    if path.suffix == RULE_SUFFIX:
        return _read(path)
    if not path.is_file():
        raise UsageError(f"there is no file '{path}'", hint="--load takes a .rules file, or a Python file with passes or rules")
    spec = importlib.util.spec_from_file_location(f"irc_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"'{path}' is no Python file", hint="--load takes a Python file with passes or rules")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file raises, it is the file that has to be mended
        del sys.modules[spec.name]
        raise UsageError(f"it fails to import: {type(error).__name__}: {error}", location=str(path)) from error
    return module


def _additions(thing: object, where: str) -> list[type[Pass] | Rule]:
    """The passes and rules in a module, a tuple of rules, or one thing. Raises UsageError where there is none."""
    if isinstance(thing, tuple):
        candidates = list(cast("tuple[object, ...]", thing))
    else:
        candidates = [v for v in vars(thing).values() if isinstance(v, (type, Rule))] if inspect.ismodule(thing) else [thing]
    found: list[type[Pass] | Rule] = []
    for candidate in candidates:
        if isinstance(candidate, Rule) or (_is_pass(candidate) and candidate not in PASSES):
            found.append(candidate)
    if not found:
        raise UsageError(
            "it defines no pass and no rule",
            location=where,
            hint="subclass irc.passes.Pass with name=..., or decorate with @rule",
        )
    return found


def _is_pass(thing: object) -> TypeGuard[type[Pass]]:
    return inspect.isclass(thing) and issubclass(thing, Pass) and bool(thing.name)
