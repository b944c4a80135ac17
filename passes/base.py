"""What a pass is: a frozen dataclass whose fields are its options, with a contract that says what it may change."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import ClassVar, Protocol, cast

from irc.ir import Graph, ModelError, Op, UsageError, Value, closest, infer


class Contract(IntEnum):
    """What a rewrite may change, from nothing to accuracy. NaN, Inf, signed zero and integer wrap are kept below LOSSY."""

    EXACT = 0  # the same bits
    REASSOCIATING = 1  # the same mathematics, another rounding
    LOSSY = 2  # needs an error budget

    @property
    def text(self) -> str:
        """The word used in listings."""
        return self.name.lower()

    @classmethod
    def named(cls, word: str) -> Contract:
        """The contract a word stands for. Raises UsageError for any other word."""
        words = [contract.text for contract in cls]
        if word not in words:
            hint = closest(word, words) or f"it is one of {', '.join(words)}"
            raise UsageError(f"there is no contract '{word}'", hint=hint)
        return cls[word.upper()]


class LimitReached(Exception):  # noqa: N818  # not an error: it ends the rewriting on purpose
    """The rewrite limit is used up; the manager stops here and keeps what was done."""


@dataclass(frozen=True)
class Application:
    """One rewrite about to be done: `old`, the results of `root`, give way to `new`, for which the ops `created` were made."""

    rewrite: str
    contract: Contract
    root: Op
    old: tuple[Value, ...]
    new: tuple[Value, ...]
    created: tuple[Op, ...] = ()


@dataclass(frozen=True)
class Miss:
    """Why a rewrite did not apply to an op, and how many ops of its pattern were found before it failed."""

    rewrite: str
    op: Op
    reason: str
    matched: int = 1

    @property
    def text(self) -> str:
        """For people: the op, where it came from, and the reason."""
        return f"{self.op.qualified_name} at {self.op.location}: {self.reason}"


@dataclass(frozen=True)
class Applied:
    """One rewrite that was done: its name, and where, as far as its pass says it."""

    rewrite: str
    location: str = ""


class Checker(Protocol):
    """Looks at each application before it is done, while old and new stand side by side in the graph."""

    def begin(self, graph: Graph) -> None:
        """Called with the captured graph before the first pass, and with a fresh copy of it where passes run again."""
        ...

    def refuse(self, application: Application) -> str | None:
        """Why the application must not be done, as a clause; None lets it happen."""
        ...

    def refuse_graph(self, graph: Graph) -> str | None:
        """Why a pass that did not ask before its rewrites must be rolled back, as a clause; `graph` is what it made."""
        ...


@dataclass
class Context:
    """What a running pass reports to: counts by rewrite, the limit, what is disabled, and why things did not match.

    `applied` is filled when it is a list; `refused` counts what the checker forbade, `unasked` what was done without asking it.
    """

    limit: int | None = None
    disabled: frozenset[str] = frozenset()
    strictest: Contract = Contract.LOSSY
    counts: Counter[str] = field(default_factory=Counter[str])
    misses: list[Miss] = field(default_factory=list[Miss])
    remark: bool = False
    checker: Checker | None = None
    refused: Counter[str] = field(default_factory=Counter[str])
    unasked: int = 0
    applied: list[Applied] | None = None
    _asked: Application | None = None

    @property
    def total(self) -> int:
        """All rewrites so far."""
        return self.counts.total()

    def take(self, rewrite: str) -> None:
        """Count one application of `rewrite` before it is done. Raises LimitReached when none is left."""
        if self.limit is not None and self.total >= self.limit:
            raise LimitReached
        self.counts[rewrite] += 1
        asked, self._asked = self._asked, None
        if asked is None or asked.rewrite != rewrite:
            asked, self.unasked = None, self.unasked + 1
        if self.applied is not None:
            self.applied.append(Applied(rewrite, "" if asked is None else str(asked.root.location)))

    def allows(self, rewrite: str, contract: Contract) -> bool:
        """Whether a rewrite is neither disabled nor beyond the strictest contract in force."""
        return rewrite not in self.disabled and contract <= self.strictest

    def refuses(self, application: Application) -> bool:
        """Whether the checker forbids an application; the reason is kept as a miss."""
        self._asked = application
        reason = None if self.checker is None else self.checker.refuse(application)
        if reason is not None:
            self.refused[application.rewrite] += 1
            self.miss(application.rewrite, application.root, reason)
        return reason is not None

    def miss(self, rewrite: str, op: Op, reason: str, matched: int = 1) -> None:
        """Remember why `rewrite` did not apply to `op`, when remarks are asked for; `matched` ops of its pattern were found."""
        if self.remark:
            self.misses.append(Miss(rewrite, op, reason, matched))


@dataclass(frozen=True)
class Pass:
    """A transformation of a graph. Subclasses are frozen dataclasses; their fields are options with defaults.

    `run` changes the graph in place, counts each rewrite with `context.take(name)` before doing it, and keeps the laws that
    `irc.ir.verify` checks. One that also asks `context.refuses(Application(...))` before each is checked rewrite by rewrite.
    `name` is kebab-case; the class docstring's first line is what `irc passes` shows.
    """

    name: ClassVar[str] = ""
    contract: ClassVar[Contract] = Contract.EXACT

    def __init_subclass__(cls, *, name: str = "", contract: Contract = Contract.EXACT) -> None:
        super().__init_subclass__()
        cls.name = name
        cls.contract = contract

    def run(self, graph: Graph, context: Context) -> None:
        """Transform `graph` in place."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it does")

    @classmethod
    def rewrites(cls) -> Iterable[tuple[str, Contract, str]]:
        """The rewrites this pass may apply: name, contract, and what each does."""
        return ((cls.name, cls.contract, first_line(cls.__doc__)),)

    def options(self) -> dict[str, object]:
        """The options that differ from their defaults, by kebab-case name."""
        changed = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return {name.replace("_", "-"): value for name, value in changed.items()}

    def __str__(self) -> str:
        options = self.options()
        if not options:
            return self.name
        return f"{self.name}{{{', '.join(f'{k}={_option_text(v)}' for k, v in options.items())}}}"


def make_pass(kind: type[Pass], options: dict[str, str]) -> Pass:
    """A pass with options given as text. Raises UsageError for an unknown option or a value of the wrong type."""
    known = {f.name.replace("_", "-"): f for f in fields(kind)}
    values: dict[str, object] = {}
    for name, text in options.items():
        kebab = name.replace("_", "-")
        if kebab not in known:
            hint = closest(kebab, list(known)) or (f"it has {', '.join(known)}" if known else "it has none")
            raise UsageError(f"pass '{kind.name}' has no option '{name}'", hint=hint)
        values[known[kebab].name] = _option_value(kind.name, kebab, known[kebab].default, text)
    return kind(**values)


def _option_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ":".join(str(part) for part in cast("tuple[object, ...]", value))
    return str(value)


def _option_value(pass_name: str, option: str, default: object, text: str) -> object:
    wanted = type(default).__name__
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(default, int):
            return int(text)
        if isinstance(default, float):
            return float(text)
        if isinstance(default, tuple):
            return tuple(part for part in text.split(":") if part)
    except (ValueError, KeyError):
        raise UsageError(f"option '{option}' of pass '{pass_name}' is {text!r}, which is no {wanted}") from None
    return text


def first_line(doc: str | None) -> str:
    """The first line of a docstring."""
    return (doc or "").strip().splitlines()[0] if doc and doc.strip() else ""


def erase_dead(op: Op) -> tuple[list[Op], list[Op]]:
    """Erase `op` if nobody uses it, then whatever only it used: what was erased, and the makers that lost a user but stay."""
    erased: list[Op] = []
    makers: dict[Op, None] = {}
    pending = [op]
    while pending:
        current = pending.pop()
        if current.graph is None or not current.is_dead:
            continue
        used = [v.op for v in operands_of(current) if v.op is not None]
        current.graph.erase(current)
        erased.append(current)
        for maker in used:
            makers[maker] = None
            if maker.is_dead:
                pending.append(maker)
    return erased, [maker for maker in makers if maker.graph is not None]


def refresh_results(op: Op) -> None:
    """Infer the results of `op` anew, never widening them; where its operands turn out to contradict it, all stays.

    Such an op fails when it is run, and it may stand where it never is.
    """
    with contextlib.suppress(ModelError):
        infer.refresh(op, tuple(r.type for r in op.results))


def refresh_from(ops: Iterable[Op]) -> None:
    """Infer the results of `ops` anew, and of whatever uses what has changed; types are never widened."""
    pending = list(ops)
    while pending:
        op = pending.pop()
        before = [(r.type, r.content) for r in op.results]
        refresh_results(op)
        for result, (kind, content) in zip(op.results, before, strict=True):
            if result.type != kind or result.content != content:
                pending.extend(result.users)


def operands_of(op: Op) -> list[Value]:
    """The values an op uses, those its bodies capture included."""
    own = [v for v in op.operands if v is not None]
    for body in op.bodies:
        own.extend(body.captures())
    return own
