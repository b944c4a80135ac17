"""One attempt to apply a rule at an op: what is bound, and whether types, conditions and uses admit it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from irc.ir import Dim, DType, Graph, Op, TensorType, Value, dims

from .patterns import Bound, Goals, Pattern
from .tree import Declaration, Expression, Let, ShapeItem

if TYPE_CHECKING:
    from ..rewriter import Rewriter


class Unproven(Exception):  # noqa: N818  # no error: a condition about which too little is known
    """A condition that cannot be decided; its text is the reason."""


@dataclass
class Match:
    """The bindings of one attempt. `matched` says of each op found whether it may have users outside."""

    root: Op
    rewriter: Rewriter
    declarations: Sequence[Declaration]
    lets: Sequence[Let]
    conditions: Sequence[tuple[Expression, str]]
    remark: bool
    values: dict[str, Bound] = field(default_factory=dict[str, Bound])
    scalars: dict[str, object] = field(default_factory=dict[str, object])
    ops: dict[str, Op] = field(default_factory=dict[str, Op])
    dims: dict[str, Dim | tuple[Dim, ...]] = field(default_factory=dict[str, Dim | tuple[Dim, ...]])
    matched: dict[Op, bool] = field(default_factory=dict[Op, bool])
    wide: int = 0
    reason: str = "its operands do not match"
    reached: int = 0

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
        for declaration in self.declarations:
            for name in declaration.names:
                bound = self.values[name] if name in self.values else self.value(name)
                for value in bound if isinstance(bound, tuple) else (bound,):
                    reason = None if value is None else self._misfit(value, declaration)
                    if reason is not None:
                        self.fail(f"%{name} {reason}")
                        return False
        if self.wide and self.root.results[0].shape is None:
            self.fail("a constant might raise the rank, which is not known")
            return False
        return True

    def _misfit(self, value: Value, declaration: Declaration) -> str | None:
        """Why a value is not of the declared type, or None."""
        kind = value.type
        if not isinstance(kind, TensorType):
            return "has no known tensor type"
        if kind.dtype not in admitted(declaration.dtypes):
            return f"is {kind.dtype.text}, not {' or '.join(declaration.dtypes)}"
        if declaration.shape is None:
            return None
        if kind.shape is None:
            return "has no known rank"
        return self._shape_misfit(kind.shape, declaration.shape)

    def _shape_misfit(self, shape: tuple[Dim, ...], items: Sequence[ShapeItem]) -> str | None:
        rest = next((i for i, item in enumerate(items) if item.kind == "rest"), None)
        least = len(items) - (rest is not None)
        if len(shape) < least or (rest is None and len(shape) != least):
            return f"has rank {len(shape)}"
        if rest is None:
            pairs = list(zip(items, shape, strict=True))
        else:
            stop = len(shape) - (least - rest)
            pairs = [*zip(items[:rest], shape[:rest], strict=True), *zip(items[rest + 1 :], shape[stop:], strict=True)]
            if items[rest].name and not self._dims_agree(items[rest].name, shape[rest:stop]):
                return f"has other dims {_shown(shape)}"
        for item, dim in pairs:
            if item.kind == "fixed" and dim != item.size:
                return f"is {_shown(shape)}"
            if item.kind == "named" and not self._dims_agree(item.name, dim):
                return f"is {_shown(shape)}, which is not proved to agree on {item.name}"
        return None

    def _dims_agree(self, name: str, found: Dim | tuple[Dim, ...]) -> bool:
        if name not in self.dims:
            self.dims[name] = found
            return True
        known = self.dims[name]
        first, second = (v if isinstance(v, tuple) else (v,) for v in (known, found))
        return self.rewriter.same_dims(first, second)

    def _conditions_hold(self) -> bool:
        from .scalars import evaluate

        try:
            for let in self.lets:
                if let.name[0] == "$":
                    self.scalars[let.name[1:]] = evaluate(let.value, self)
            for condition, text in self.conditions:
                if not evaluate(condition, self):
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


def _shown(shape: tuple[Dim, ...]) -> str:
    return f"[{','.join('?' if d is None else dims.text(d) for d in shape)}]"
