"""One attempt to apply a rule at an op: what is bound, and whether types, conditions and uses admit it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from irc.ir import Dim, DType, Graph, Op, TensorType, Value, dims

from .patterns import Bound, Goals, Pattern
from .tree import Declaration, ShapeItem

if TYPE_CHECKING:
    from ..rewriter import Rewriter


class Unproven(Exception):  # noqa: N818  # no error: a condition about which too little is known
    """A condition that cannot be decided; its text is the reason."""


@dataclass(frozen=True)
class Declared:
    """One line of `given`, ready to be asked: its shape is what stands before and after any number of dims called `rest`."""

    names: tuple[str, ...]
    words: tuple[str, ...]
    dtypes: frozenset[DType]
    has_shape: bool
    before: tuple[ShapeItem, ...]
    rest: ShapeItem | None
    after: tuple[ShapeItem, ...]

    @staticmethod
    def of(declaration: Declaration) -> Declared:
        """What a declaration asks."""
        items = declaration.shape or ()
        place = next((i for i, item in enumerate(items) if item.kind == "rest"), None)
        before, after = (items, ()) if place is None else (items[:place], items[place + 1 :])
        rest = None if place is None else items[place]
        words = declaration.dtypes
        return Declared(declaration.names, words, admitted(words), declaration.shape is not None, before, rest, after)


@dataclass(frozen=True)
class Demands:
    """What a rule asks beside its pattern: types, the scalars it computes by name, and conditions with the text of each."""

    declared: tuple[Declared, ...] = ()
    lets: tuple[tuple[str, Callable[[Match], object]], ...] = ()
    conditions: tuple[tuple[Callable[[Match], object], str], ...] = ()


class Match:
    """The bindings of one attempt. `matched` says of each op found whether it may have users outside."""

    __slots__ = (
        "demands",
        "dims",
        "matched",
        "ops",
        "reached",
        "reason",
        "remark",
        "rewriter",
        "root",
        "scalars",
        "values",
        "wide",
    )

    def __init__(self, root: Op, rewriter: Rewriter, demands: Demands) -> None:
        self.root = root
        self.rewriter = rewriter
        self.demands = demands
        self.remark = rewriter.context.remark
        self.values: dict[str, Bound] = {}
        self.scalars: dict[str, object] = {}
        self.ops: dict[str, Op] = {}
        self.dims: dict[str, Dim | tuple[Dim, ...]] = {}
        self.matched: dict[Op, bool] = {}
        self.wide = 0
        self.reason = "its operands do not match"
        self.reached = 0

    def proceed(self, goals: Goals) -> bool:
        """Whether the remaining goals, and then types, uses and conditions, are met."""
        if goals is not None:
            pattern, value, rest = goals
            return pattern.match(value, rest, self)
        return self._uses_are_inside() and self._types_fit() and self._conditions_hold()

    def at(self, pattern: Pattern, value: Value) -> bool:
        """Whether the whole rule matches with `pattern` at `value`."""
        return pattern.match(value, None, self)

    def fail(self, reason: str) -> None:
        """Remember why, if nothing got further."""
        if self.remark and len(self.matched) >= self.reached:
            self.reason, self.reached = reason, len(self.matched)

    def value(self, name: str) -> Value | None:
        """What `%name` stands for: a value, or the first result of an op so called."""
        if name in self.ops:
            return self.ops[name].results[0]
        bound = self.values.get(name)
        assert not isinstance(bound, tuple), f"%{name} stands for several values"
        return bound

    def bound(self, name: str) -> Bound:
        """What `%name` stands for, which may be several values."""
        bound = self.values.get(name)
        return bound if isinstance(bound, tuple) else self.value(name)

    def _uses_are_inside(self) -> bool:
        for op, shared in self.matched.items():
            if op is self.root:
                continue
            if op.graph is not self.root.graph:
                if self.remark:
                    self.fail(f"{op} stands in another body")
                return False
            if shared:
                continue
            for result in op.results:
                for user, _ in result.uses:
                    if isinstance(user, Graph) or user not in self.matched:
                        if self.remark:
                            self.fail(f"the result of {op} is used elsewhere too")
                        return False
        return True

    def _types_fit(self) -> bool:
        self.dims = {}
        for declared in self.demands.declared:
            for name in declared.names:
                bound = self.values[name] if name in self.values else self.value(name)
                for value in bound if isinstance(bound, tuple) else (bound,):
                    reason = None if value is None else self._misfit(value, declared)
                    if reason is not None:
                        self.fail(f"%{name} {reason}")
                        return False
        if self.wide and self.root.results[0].shape is None:
            self.fail("a constant might raise the rank, which is not known")
            return False
        return True

    def _misfit(self, value: Value, declared: Declared) -> str | None:
        """Why a value is not of the declared type, or None."""
        kind = value.type
        if not isinstance(kind, TensorType):
            return "has no known tensor type"
        if kind.dtype not in declared.dtypes:
            return f"is {kind.dtype.text}, not {' or '.join(declared.words)}"
        if not declared.has_shape:
            return None
        if kind.shape is None:
            return "has no known rank"
        return self._shape_misfit(kind.shape, declared)

    def _shape_misfit(self, shape: tuple[Dim, ...], declared: Declared) -> str | None:
        rest, leading = declared.rest, len(declared.before)
        stop = len(shape) - len(declared.after)
        if stop < leading or (rest is None and stop != leading):
            return f"has rank {len(shape)}"
        if rest is not None and rest.name and not self._dims_agree(rest.name, shape[leading:stop]):
            return f"has other dims {self._shown(shape)}"
        for items, dims_of_them in ((declared.before, shape), (declared.after, shape[stop:])):
            for item, dim in zip(items, dims_of_them, strict=False):
                if item.kind == "fixed" and dim != item.size:
                    return f"is {self._shown(shape)}"
                if item.kind == "named" and not self._dims_agree(item.name, dim):
                    return f"is {self._shown(shape)}, which is not proved to agree on {item.name}"
        return None

    def _shown(self, shape: tuple[Dim, ...]) -> str:
        """A shape for a message, where anybody reads it."""
        return f"[{','.join('?' if d is None else dims.text(d) for d in shape)}]" if self.remark else "[...]"

    def _dims_agree(self, name: str, found: Dim | tuple[Dim, ...]) -> bool:
        if name not in self.dims:
            self.dims[name] = found
            return True
        known = self.dims[name]
        first, second = (v if isinstance(v, tuple) else (v,) for v in (known, found))
        return self.rewriter.same_dims(first, second)

    def _conditions_hold(self) -> bool:
        try:
            for name, value in self.demands.lets:
                self.scalars[name] = value(self)
            for condition, text in self.demands.conditions:
                if not condition(self):
                    self.fail(f"`{text}` does not hold")
                    return False
        except Unproven as unproven:
            self.fail(str(unproven))
            return False
        return True


KINDS: dict[str, frozenset[DType]] = {
    "any": frozenset(DType),
    "float": frozenset(d for d in DType if d in (DType.F16, DType.BF16, DType.F32, DType.F64)),
    "int": frozenset(d for d in DType if d.is_integer and d.bits >= 8),
    "signed": frozenset({DType.I8, DType.I16, DType.I32, DType.I64}),
    "unsigned": frozenset({DType.U8, DType.U16, DType.U32, DType.U64}),
}
KINDS["number"] = KINDS["float"] | KINDS["int"]


@cache
def admitted(words: tuple[str, ...]) -> frozenset[DType]:
    """The dtypes that dtypes and kinds of dtypes, as written in `given`, admit."""
    return frozenset(dtype for word in words for dtype in KINDS.get(word) or {d for d in DType if d.text == word})
