"""Local rewrites, driven by a worklist: a rule looks at one op, and says what to use instead or why not.

Laws: work is proportional to what changes; a rule that says No leaves the graph as it was; what a rule creates carries the
locations of all it replaced; types are never widened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from irc.ir import (
    Attribute,
    Dim,
    Graph,
    Location,
    ModelError,
    Op,
    SymbolicDim,
    Tensor,
    TensorType,
    Type,
    UnknownType,
    Value,
    VerifyError,
    constant_op,
    dialect,
    infer,
    schema,
    types,
    via,
)

from .base import Application, Context, Contract, erase_dead, first_line, refresh_results

if TYPE_CHECKING:
    from .language.tree import RuleTree


@dataclass(slots=True)  # not frozen: most of what rules answer is No, and a frozen one takes three times as long to make
class No:
    """Why a rule does not apply: a lower-case clause that starts with its subject, such as `its input is not constant`."""

    reason: str
    matched: int = 1
    """How many ops of the rule's pattern were found before it failed."""

    def __bool__(self) -> bool:
        return False


Replacement = Value | Sequence[Value] | No
Needs: TypeAlias = Mapping[str, tuple[tuple[frozenset[str], ...], ...]]
RuleFunction = Callable[[Op, "Rewriter"], Replacement]


@dataclass(frozen=True)
class Rule:
    """A rewrite of ops named `roots` (no names: of every op), with the contract it keeps.

    `doc` says what it does, `sources` who exports what it matches, `written` the rule as a rule file has it. `needs` is
    a quick test: for a root op, rows of sets of op names; in some row, one name of each set must make some operand.
    """

    name: str
    roots: tuple[str, ...]
    contract: Contract
    function: RuleFunction
    doc: str = ""
    sources: tuple[str, ...] = ()
    written: Callable[[], RuleTree] | None = field(default=None, compare=False)
    needs: Needs = field(default_factory=dict[str, tuple[tuple[frozenset[str], ...], ...]], compare=False)

    @property
    def tree(self) -> RuleTree | None:
        """The rule as written in a rule file, or None for one in Python."""
        return None if self.written is None else self.written()


def rule(*roots: str, contract: Contract = Contract.EXACT, over: Iterable[str] = ()) -> Callable[[RuleFunction], Rule]:
    """Make a rule of a function `(op, rewrite) -> replacement or No`; it is called after the function, in kebab-case.

    The function gets an op whose name is one of `roots` (`com.microsoft::Gelu` for other domains), checks first, and only
    then builds: `rewrite.op(...)` and `rewrite.constant(...)` put new ops in front of the old one. It returns a value for
    the op's only result, or one per result. `over` names the ops one of which must make some operand, for the rule to be
    tried at all; naming none leaves that to the function.
    """
    needs: Needs = {root: ((frozenset(over),),) for root in roots} if over else {}

    def decorate(function: RuleFunction) -> Rule:
        name = function.__name__.strip("_").replace("_", "-")
        return Rule(name, roots, contract, function, first_line(function.__doc__), needs=needs)

    return decorate


# A rule that undoes another, or matches what it makes, would go on for ever.
MOST_REWRITES = 1000
MOST_REWRITES_PER_OP = 50


@dataclass
class Rewriter:
    """The driver of one run over one graph, and the builder its rules use."""

    graph: Graph
    rules: Iterable[Rule]
    context: Context
    _by_root: dict[str, list[Rule]] = field(default_factory=dict[str, list[Rule]])
    _anywhere: list[Rule] = field(default_factory=list[Rule])
    _fitting: dict[tuple[str, ...], tuple[Rule, ...]] = field(default_factory=dict[tuple[str, ...], tuple[Rule, ...]])
    _created: list[Op] = field(default_factory=list[Op])
    _root: Op | None = None
    _pending: list[Op] = field(default_factory=list[Op])
    _queued: set[Op] = field(default_factory=set[Op])
    _stale: set[Op] = field(default_factory=set[Op])

    def __post_init__(self) -> None:
        for one in self.rules:
            if not self.context.allows(one.name, one.contract):
                continue
            if not one.roots:
                self._anywhere.append(one)
            for root in one.roots:
                self._by_root.setdefault(root, []).append(one)
        for own in self._by_root.values():
            own.extend(self._anywhere)
        self._shared = _shared_names(self.graph)
        self._left = MOST_REWRITES + MOST_REWRITES_PER_OP * self.graph.size

    def run(self, starts: Iterable[Op] | None = None) -> None:
        """Apply rules until none applies anywhere; with `starts`, at these ops and whatever their rewriting touches."""
        # A fused region is a kernel already.
        every = list(self.graph.walk())
        regions = {id(body) for op in every if dialect.is_fused(op) for body in op.bodies}
        for op in reversed(every if starts is None else list(starts)):
            if id(op.graph) not in regions:
                self._queue(op)
        while self._pending:
            op = self._pending.pop()
            self._queued.discard(op)
            if op.graph is None:
                continue
            if op.is_dead and not op.is_constant:
                for maker in erase_dead(op)[1]:
                    self._queue(maker)
                continue
            if op in self._stale:
                self._refresh(op)
            self._visit(op)

    def _visit(self, op: Op) -> None:
        self._root, self._created = op, []
        remark = self.context.remark
        for one in self._candidates(op):
            try:
                answer = one.function(op, self)
            except ModelError as error:
                answer = No(f"the model is inconsistent here: {error.message}")
            if isinstance(answer, No):
                if self._created:
                    self._discard()
                if remark:
                    self.context.miss(one.name, op, answer.reason, answer.matched)
                continue
            values = (answer,) if isinstance(answer, Value) else tuple(answer)
            self._check(one, op, values)
            if any(_other_shape(old.type, new.type) for old, new in zip(op.results, values, strict=True)):
                self._discard()
                self.context.miss(one.name, op, "its replacement has another shape, so a declared shape is wrong")
                continue
            if self.context.refuses(Application(one.name, one.contract, op, tuple(op.results), values, tuple(self._created))):
                self._discard()
                continue
            try:
                self.context.take(one.name)
            except BaseException:
                self._discard()
                raise
            self._commit(one, op, values)
            return

    def _candidates(self, op: Op) -> tuple[Rule, ...]:
        """The rules that may apply to an op, by its name and by what makes its operands."""
        name = op.qualified_name
        makers = [v.op.name for v in op.operands if v is not None and v.op is not None]
        key = (name, *makers)
        found = self._fitting.get(key)
        if found is None:
            all_of_them, distinct = self._by_root.get(name) or self._anywhere, frozenset(makers)
            found = tuple(one for one in all_of_them if self.context.remark or _may_fit(one.needs.get(name), distinct))
            self._fitting[key] = found
        return found

    def _check(self, one: Rule, op: Op, values: tuple[Value, ...]) -> None:
        """Refuse a replacement that cannot be right, and rewriting that does not end. Raises VerifyError."""
        self._left -= 1
        if self._left < 0:
            raise VerifyError(f"rewriting does not end; the last rule is '{one.name}'", location=str(op.location))
        if len(values) != len(op.results):
            raise VerifyError(
                f"rule '{one.name}' gives {len(values)} values for {len(op.results)} results", location=str(op.location)
            )
        for old, new in zip(op.results, values, strict=True):
            if _contradict(old.type, new.type):
                raise VerifyError(f"rule '{one.name}' gives {new.type} for {old.type}", location=str(op.location))

    def _discard(self) -> None:
        for op in reversed(self._created):
            if op.graph is not None and op.is_dead:
                op.graph.erase(op)
        self._created = []

    def _commit(self, one: Rule, op: Op, values: tuple[Value, ...]) -> None:
        created = [new for new in self._created if new.graph is not None]
        for old, new in zip(op.results, values, strict=True):
            if not new.name or (new.op in created and old.name):
                new.name = old.name
            changed = self._narrow(new, old)
            for user in old.users:
                if changed:
                    self._stale.add(user)
                self._queue(user)
            old.replace_by(new)
        erased, makers = erase_dead(op)
        location = via(one.name, *_locations(erased, op))
        for new in created:
            new.location = location
            if new.graph is not None and new.is_dead:
                new.graph.erase(new)
            self._queue(new)
        for maker in makers:
            self._queue(maker)

    def _narrow(self, new: Value, old: Value) -> bool:
        """Give `new` what was known of `old`; whether users of `old` learn something."""
        if new.type is old.type and new.content == old.content:
            return False
        learnt = new.type != old.type or new.content != old.content
        if new.op is not None and not new.op.is_constant:
            new.type = types.merge(new.type, old.type)
            new.content = new.content if new.content is not None else old.content
        return learnt

    def _refresh(self, op: Op) -> None:
        self._stale.discard(op)
        before = [(r.type, r.content) for r in op.results]
        refresh_results(op)
        for result, (kind, content) in zip(op.results, before, strict=True):
            if result.type != kind or result.content != content:
                for user in result.users:
                    self._stale.add(user)
                    self._queue(user)

    def _queue(self, op: Op) -> None:
        """Have `op` looked at, if there is a rule for it or news of its operands."""
        if op.graph is None or op in self._queued:
            return
        if self._anywhere or op.qualified_name in self._by_root or op in self._stale:
            self._queued.add(op)
            self._pending.append(op)

    def op(
        self,
        name: str,
        operands: Sequence[Value | None],
        attributes: dict[str, Attribute] | None = None,
        *,
        results: int = 1,
        domain: str = "",
    ) -> Value:
        """A new op in front of the one being rewritten; its first result."""
        assert self._root is not None
        assert self._root.graph is not None
        if not domain and schema.find("", name, schema.CANONICAL_OPSET) is None:
            raise VerifyError(f"ONNX has no op '{name}'", location=str(self._root.location), hint="name its domain")
        new = infer.make(name, tuple(operands), self._root.location, attributes=attributes, results=results, domain=domain)
        self._root.graph.insert(new, self._root)
        self._created.append(new)
        return new.results[0]

    def constant(self, tensor: Tensor) -> Value:
        """A new constant in front of the op being rewritten."""
        assert self._root is not None
        assert self._root.graph is not None
        new = self._root.graph.insert(constant_op(tensor, self._root.location), self._root)
        self._created.append(new)
        return new.result

    def inline(self, op: Op) -> None:
        """Note an op of a body that a rule has moved in front of the one being rewritten."""
        self._queue(op)

    def same_dims(self, a: Sequence[Dim] | None, b: Sequence[Dim] | None) -> bool:
        """Whether two shapes are provably equal; relying on a name several inputs share is recorded as an assumption."""
        if a is None or b is None or len(a) != len(b) or any(x is None or x != y for x, y in zip(a, b, strict=True)):
            return False
        self.assume(a)
        return True

    def assume(self, shape: Sequence[Dim]) -> None:
        """Record that a rewrite relies on inputs agreeing on the named dims in `shape`."""
        for dim in shape:
            if isinstance(dim, SymbolicDim):
                self.graph.assumed_dims.update(dim.names() & self._shared)

    def same_type(self, a: Value, b: Value) -> bool:
        """Whether two tensor values provably have one dtype and shape."""
        if not isinstance(a.type, TensorType) or not isinstance(b.type, TensorType):
            return False
        return a.type.dtype is b.type.dtype and self.same_dims(a.type.shape, b.type.shape)


def _may_fit(needs: tuple[tuple[frozenset[str], ...], ...] | None, makers: frozenset[str]) -> bool:
    """Whether some row of needs is met by the names of the ops that make an op's operands."""
    return needs is None or any(all(not makers.isdisjoint(wanted) for wanted in row) for row in needs)


def _locations(erased: list[Op], root: Op) -> list[Location]:
    return [root.location, *(gone.location for gone in erased if gone is not root and not gone.is_constant)]


def _contradict(old: Type, new: Type) -> bool:
    """Whether no value can have both types."""
    if isinstance(old, UnknownType) or isinstance(new, UnknownType):
        return False
    if not isinstance(old, TensorType) or not isinstance(new, TensorType):
        return type(old) is not type(new)
    return old.dtype is not new.dtype


def _other_shape(old: Type, new: Type) -> bool:
    """Whether shapes contradict each other; a model may declare shapes that its ops do not have."""
    if not isinstance(old, TensorType) or not isinstance(new, TensorType) or old.shape is None or new.shape is None:
        return False
    if old.shape == new.shape:
        return False
    pairs = zip(old.shape, new.shape, strict=False)
    return len(old.shape) != len(new.shape) or any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs)


def _shared_names(graph: Graph) -> set[str]:
    """Dim names that stand at more than one place of the inputs' types, so that their sizes may disagree at run time."""
    seen: set[str] = set()
    shared: set[str] = set()
    for value in graph.inputs:
        for dim in value.shape or ():
            own = dim.names() if isinstance(dim, SymbolicDim) else set[str]()
            shared |= seen & own
            seen |= own
    return shared
