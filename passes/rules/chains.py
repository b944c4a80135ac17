"""Chains of ops that only rename and rearrange dims, as the one rearrangement they are together, in as few ops as it takes.

Dims are cut into atoms, as fine as any reshape of the chain cuts them. A chain then is nothing but the order of the atoms
before and after, and which of them make up one dim of the input and of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

from irc.ir import Dim, Op, Tensor, TensorType, Value, dims

from ..canonicalize.shapes import target_pattern
from ..exactness import CORRECTLY_ROUNDED
from ..permutations import moves_elements, permutation_of
from ..rewriter import No, Rewriter, Rule, rule

LONGEST = 16
"""How many ops a chain may have."""
VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")
MOVERS = (*VIEWS, "Transpose", "DepthToSpace", "SpaceToDepth")
Groups: TypeAlias = "list[list[int]]"


@dataclass
class Arrangement:
    """Which atoms make up each dim of the input and of the current value; dims of size 1 have none."""

    sizes: list[Dim]
    before: Groups
    after: Groups
    relied: list[Dim] = field(default_factory=list[Dim])

    @staticmethod
    def of(shape: Sequence[Dim]) -> Arrangement | None:
        """What a value of this shape is before anything moves, or None where a dim is unknown or 0."""
        if any(d is None or d == 0 for d in shape):
            return None
        sizes: list[Dim] = []
        groups: Groups = []
        for dim in shape:
            groups.append([] if dim == 1 else [len(sizes)])
            sizes += [] if dim == 1 else [dim]
        return Arrangement(sizes, groups, [list(g) for g in groups])

    def transpose(self, permutation: Sequence[int]) -> None:
        """Put the dims in another order."""
        self.after = [self.after[i] for i in permutation]

    def reshape(self, shape: Sequence[Dim]) -> bool:
        """Put the atoms into other dims, cutting some in two; whether that is possible with what is known of the shape."""
        pending = [atom for group in self.after for atom in group]
        pending.reverse()
        groups: Groups = []
        for dim in shape:
            group: list[int] = []
            have: Dim = 1
            if dim is None or dim == 0:
                return False
            while have != dim:
                if not pending:
                    return False
                atom = pending.pop()
                grown = dims.multiply(have, self.sizes[atom])
                if isinstance(have, int) and isinstance(dim, int) and isinstance(grown, int) and grown > dim:
                    part = dim // have
                    if part * have != dim or grown % dim:
                        return False
                    rest = self._cut(atom, part)
                    pending.append(rest)
                    grown = dim
                if not isinstance(grown, int):
                    self.relied.append(grown)
                have = grown
                group.append(atom)
            groups.append(group)
        self.after = groups
        return not pending

    def _cut(self, atom: int, part: int) -> int:
        """Cut an atom into one of size `part`, which keeps its number, and the rest behind it; the number of the rest."""
        whole = self.sizes[atom]
        assert isinstance(whole, int)
        rest = len(self.sizes)
        self.sizes[atom] = part
        self.sizes.append(whole // part)
        for groups in (self.before, self.after):
            for group in groups:
                if atom in group:
                    group.insert(group.index(atom) + 1, rest)
        return rest

    def merged(self) -> Arrangement:
        """The same with atoms that stay neighbours as one."""
        order = [atom for group in self.before for atom in group]
        following = {a: b for groups in (self.after,) for a, b in _neighbours(groups)}
        numbers: dict[int, int] = {}
        sizes: list[Dim] = []
        for previous, atom in zip([-1, *order], order, strict=False):
            if previous >= 0 and following.get(previous) == atom:
                numbers[atom] = numbers[previous]
                sizes[-1] = dims.multiply(sizes[-1], self.sizes[atom])
            else:
                numbers[atom] = len(sizes)
                sizes.append(self.sizes[atom])
        before, after = ([list(dict.fromkeys(numbers[a] for a in g)) for g in groups] for groups in (self.before, self.after))
        return Arrangement(sizes, before, after, self.relied)

    @property
    def order(self) -> list[int]:
        """The atoms as they stand in memory afterwards."""
        return list(dict.fromkeys(atom for group in self.after for atom in group))


def _neighbours(groups: Groups) -> list[tuple[int, int]]:
    flat = [atom for group in groups for atom in group]
    return list(pairwise(flat))


def extend(arrangement: Arrangement, op: Op) -> bool:
    """Let one more op of the chain rearrange; whether all that takes is known."""
    if op.name in VIEWS:
        return op.results[0].shape is not None and arrangement.reshape(op.results[0].shape)
    if op.name == "Transpose":
        permutation = permutation_of(op)
        if permutation is not None:
            arrangement.transpose(permutation)
        return permutation is not None
    shape, block = op.needed(0).shape, op.integer("blocksize", 0)
    if shape is None or len(shape) != 4 or block < 1:
        return False
    mode = "SPACE" if op.name == "SpaceToDepth" else op.string("mode", "DCR")
    return rearrange_blocks(arrangement, shape, block, mode)


def rearrange_blocks(arrangement: Arrangement, shape: Sequence[Dim], block: int, mode: str) -> bool:
    """What SpaceToDepth ("SPACE") and DepthToSpace ("DCR", "CRD") do, as the ONNX operator specification writes it out."""
    batch, channels, height, width = shape
    if mode == "SPACE":
        if not isinstance(height, int) or not isinstance(width, int) or height % block or width % block:
            return False
        split: list[Dim] = [batch, channels, height // block, block, width // block, block]
        order = (0, 3, 5, 1, 2, 4)
        joined: list[Dim] = [batch, dims.multiply(channels, block * block), height // block, width // block]
    else:
        if not isinstance(channels, int) or channels % (block * block):
            return False
        depth = channels // (block * block)
        inner: list[Dim] = [block, block, depth] if mode == "DCR" else [depth, block, block]
        split = [batch, *inner, height, width]
        order = (0, 3, 4, 1, 5, 2) if mode == "DCR" else (0, 1, 4, 2, 5, 3)
        joined = [batch, depth, dims.multiply(height, block), dims.multiply(width, block)]
    if not arrangement.reshape(split):
        return False
    arrangement.transpose(order)
    return arrangement.reshape(joined)


@dataclass
class Chain:
    """Ops in a row from the input's side, each but the last used by the next only; `kept` are those that compute."""

    source: Value
    moved: list[Op]
    kept: list[Op]


def _chain_to(last: Op) -> Chain:
    chain = Chain(last.needed(0), [last], [])
    while len(chain.moved) + len(chain.kept) < LONGEST:
        op = chain.source.op
        if op is None or op.graph is not last.graph or not chain.source.has_one_use:
            break
        if op.is_a(*MOVERS):
            chain.moved.append(op)
        elif _is_per_element(op):
            chain.kept.append(op)
        else:
            break
        chain.source = op.needed(_data_of(op))
    while chain.kept and (not chain.moved or _comes_before(chain.kept[-1], chain.moved[-1])):
        # What computes at the beginning of the chain stays where it is.
        chain.source = chain.kept.pop().result
    chain.moved.reverse()
    chain.kept.reverse()
    return chain


def _comes_before(first: Op, second: Op) -> bool:
    """Whether `first` feeds `second`, both of one chain and one of them at its beginning."""
    op: Op | None = second
    while op is not None:
        if op is first:
            return True
        op = op.needed(_data_of(op)).op if op.is_a(*MOVERS) or _is_per_element(op) else None
    return False


def _is_per_element(op: Op) -> bool:
    """Whether an op makes each element of its result from one element of one operand, and constants of one element."""
    if op.domain or op.name not in CORRECTLY_ROUNDED or len(op.results) != 1 or op.result.shape is None:
        return False
    others = [v for i, v in enumerate(op.operands) if i != _data_of(op)]
    if not all(v is None or (v.constant is not None and v.constant.size == 1) for v in others):
        return False
    source = op.needed(_data_of(op)).shape
    return source is not None and len(source) == len(op.result.shape)


def _data_of(op: Op) -> int:
    """The operand of an op that is no constant of one element."""
    if len(op.operands) == 2 and not op.is_a(*MOVERS):
        first = op.operands[0]
        return 1 if first is not None and first.constant is not None else 0
    return 0


@rule(*MOVERS)
def rearrangement(op: Op, rewrite: Rewriter) -> Value | No:
    """Reshapes and transposes in a row are as few of them, or as one DepthToSpace or SpaceToDepth, as make the same of it."""
    inner, result = op.needed(0).op, op.results[0]
    if inner is None or not (inner.is_a(*MOVERS) or _is_per_element(inner)):
        return No("its input is no reshape or transpose")
    follower = result.users[0] if result.has_one_use and result.users else None
    if follower is not None and follower.is_a(*MOVERS):
        return No("it is not the last of its chain")
    chain = _chain_to(op)
    if len(chain.moved) < 2:
        return No("its input is no reshape or transpose that only it uses")
    if len(chain.moved) == 2 and not _may_be_one(chain.source, *chain.moved):
        return No("it takes as many ops", 2)
    arrangement = None if chain.source.shape is None else Arrangement.of(chain.source.shape)
    if arrangement is None:
        return No("a dim of its input is not known, or 0")
    if not all(extend(arrangement, moved) for moved in chain.moved):
        return No("how its dims are cut is not known", len(chain.moved))
    plan = _plan(chain.source, result, arrangement)
    if plan is None or len(plan) >= len(chain.moved):
        return No("it takes as many ops", len(chain.moved))
    rewrite.assume(arrangement.relied)
    value = chain.source
    for name, operand in plan:
        value = _step(name, operand, value, rewrite)
    return _replayed(chain.kept, value, rewrite)


def _may_be_one(source: Value, first: Op, second: Op) -> bool:
    """Whether two ops might be one: quick, and yes where that takes a closer look."""
    if not (first.is_a("Transpose") or second.is_a("Transpose")) or not (first.is_a(*VIEWS) or second.is_a(*VIEWS)):
        return True
    transpose, result = first if first.is_a("Transpose") else second, second.results[0]
    permutation, shape = permutation_of(transpose), transpose.needed(0).shape
    if permutation is None or shape is None or source.shape is None or result.shape is None:
        return False
    return len(source.shape) == len(result.shape) or not moves_elements(permutation, shape)


Step: TypeAlias = "tuple[str, tuple[int, ...]]"


def _step(name: str, operand: tuple[int, ...], value: Value, rewrite: Rewriter) -> Value:
    if name == "Reshape":
        return rewrite.op("Reshape", [value, rewrite.constant(Tensor.integers(operand))])
    if name == "Transpose":
        return rewrite.op("Transpose", [value], {"perm": operand})
    if name == "SpaceToDepth":
        return rewrite.op(name, [value], {"blocksize": operand[0]})
    return rewrite.op("DepthToSpace", [value], {"blocksize": operand[0], "mode": name})


def _replayed(kept: list[Op], value: Value, rewrite: Rewriter) -> Value:
    for op in kept:
        operands = [value if i == _data_of(op) else v for i, v in enumerate(op.operands)]
        value = rewrite.op(op.name, operands, dict(op.attributes))
    return value


def _plan(source: Value, result: Value, arrangement: Arrangement) -> list[Step] | None:
    """The fewest steps from the source to the shape of the result, or None where a shape takes more than is known."""
    if source.shape is None or result.shape is None:
        return None
    merged = arrangement.merged()
    if merged.order == sorted(merged.order):
        return [] if source.shape == result.shape else _reshape(source.shape, result.shape)
    block = _as_block(source, result, merged)
    if block is not None:
        return [block]
    # Where both take as many, the Transpose comes last: so stand heads split from features, and images made of tokens.
    plans = (plan_of(source, result, merged) for plan_of in (_transpose_last, _transpose_first, _in_three))
    found = [plan for plan in plans if plan is not None]
    return min(found, key=len) if found else None


def _reshape(source: Sequence[Dim], target: Sequence[Dim]) -> list[Step] | None:
    if tuple(source) == tuple(target):
        return []
    pattern = target_pattern(target, source)
    return None if pattern is None else [("Reshape", tuple(pattern[0]))]


def _transpose_first(source: Value, result: Value, merged: Arrangement) -> list[Step] | None:
    """A Transpose of the input's own dims and a Reshape, where no dim of the input is torn apart."""
    shape = source.shape
    assert shape is not None
    assert result.shape is not None
    order = _dims_in(merged.before, merged.order)
    if order is None:
        return None
    rest = _reshape([shape[i] for i in order], result.shape)
    return None if rest is None else [("Transpose", tuple(order)), *rest]


def _transpose_last(source: Value, result: Value, merged: Arrangement) -> list[Step] | None:
    """A Reshape and a Transpose to the dims of the result, where none of them is put together."""
    assert source.shape is not None
    assert result.shape is not None
    memory = [atom for group in merged.before for atom in group]
    order = _dims_in(merged.after, list(dict.fromkeys(memory)))
    if order is None:
        return None
    first = _reshape(source.shape, [result.shape[i] for i in order])
    return None if first is None else [*first, ("Transpose", tuple(order.index(i) for i in range(len(order))))]


def _in_three(source: Value, result: Value, merged: Arrangement) -> list[Step] | None:
    assert source.shape is not None
    assert result.shape is not None
    first = _reshape(source.shape, merged.sizes)
    last = _reshape([merged.sizes[i] for i in merged.order], result.shape)
    return None if first is None or last is None else [*first, ("Transpose", tuple(merged.order)), *last]


def _dims_in(groups: Groups, order: list[int]) -> list[int] | None:
    """The dims these groups are of, in the order their atoms come in `order`; None where a dim holds several atoms.

    Atoms that stay neighbours have been merged, so such a dim is torn apart. A dim without atoms stays behind the one in
    front of it.
    """
    by_atom: dict[int, list[int]] = {}
    front = -1
    for index, group in enumerate(groups):
        if len(group) > 1:
            return None
        front = group[0] if group else front
        by_atom.setdefault(front, []).append(index)
    return [index for atom in (-1, *order) for index in by_atom.get(atom, ())]


def _as_block(source: Value, result: Value, merged: Arrangement) -> Step | None:
    """DepthToSpace or SpaceToDepth, where that is what it is."""
    before, after = source.shape, result.shape
    if before is None or after is None or len(before) != 4 or len(after) != 4 or not isinstance(source.type, TensorType):
        return None
    channels, depth = before[1], after[1]
    if not isinstance(channels, int) or not isinstance(depth, int):
        return None
    large, small = max(channels, depth), min(channels, depth)
    block = round((large / small) ** 0.5)
    if block < 2 or small * block * block != large:
        return None
    for mode in ("DCR", "CRD") if depth < channels else ("SPACE",):
        trial = Arrangement.of(before)
        if trial is None or not rearrange_blocks(trial, before, block, mode) or not trial.reshape(after):
            continue
        same = trial.merged()
        if (same.sizes, same.before, same.after) == (merged.sizes, merged.before, merged.after):
            return ("SpaceToDepth" if mode == "SPACE" else mode, (block,))
    return None


RULES: tuple[Rule, ...] = (rearrangement,)
