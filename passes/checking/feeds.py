"""What a region is fed: real activations, and made-up values that provoke (NaN, Inf, signed zeros, extremes, several scales).

Integers that choose shapes, axes or places keep their real values, because nonsense there fails on both sides and says
nothing; a divisor of zero would even end the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, cast

import numpy as np

from irc.ir import DType, Op, SymbolicDim, TensorType, Value, cost_of, dims, shapes

from ..base import Contract
from .activations import Activations
from .regions import Region

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Feed:
    """Arrays for the inputs of a region by name, and what to call them; `special` ones hold NaN, Inf or extremes."""

    label: str
    arrays: Mapping[str, Any]
    special: bool = False


SPECIALS = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 3e-42, -3e-42, 1e38, -1e38, np.inf, -np.inf, np.nan])
# What the made-up feeds of one region may cost together, as `ir.cost` counts, and how many there are in any case.
BUDGET = 1_000_000_000
FEWEST = 3
# A prime number of made-up values, so that tiled over a tensor no row or column of it is like another one.
POOL = 65_537


def feeds_of(region: Region, activations: Activations, contract: Contract, real: str) -> Iterator[Feed]:
    """The feeds to compare a region on; none where nothing fits its inputs. `real` says where the real inputs are from."""
    arrays = [activations.of(value) for value in region.inputs]
    known = [a for a in arrays if a is not None]
    if len(known) == len(arrays):
        yield Feed(real, _named(known))
    pattern = [_pattern(v, a, activations.sizes) for v, a in zip(region.inputs, arrays, strict=True)]
    fixed = [_is_fixed(value, region) for value in region.inputs]
    kinds = _kinds(region, contract)
    room = max(FEWEST, BUDGET // max(1, sum(cost_of(op, activations.sizes).weight for op in region.ops)))
    # Where there is no room for all, real inputs stand for ordinary ones.
    for label, make, special in kinds[1 : room + 1] if len(known) == len(arrays) and room < len(kinds) else kinds[:room]:
        made = _made(pattern, fixed, make)
        if made is not None:
            yield Feed(label, made, special)
    names = {name for value in region.inputs for name in _names(value)}
    for size in (1, 3) if names else ():
        other = [_pattern(value, None, dict.fromkeys(names, size)) for value in region.inputs]
        made = _made(other, fixed, lambda p, seed: _ordinary(p, seed, 1.0))
        if made is not None:
            yield Feed(f"ordinary values with {', '.join(sorted(names))} = {size}", made)


Kind = tuple[str, Callable[["Array", int], "Array"], bool]


def _kinds(region: Region, contract: Contract) -> list[Kind]:
    """How values are made up, what finds most first.

    What is exact is so for any values at once; elsewhere sums would overflow or cancel, so specials come one kind at a time.
    """
    ordinary: list[Kind] = [("ordinary values", lambda p, seed: _ordinary(p, seed, 1.0), False)]
    if _casts_to_integers(region):
        return ordinary  # what NaN, Inf or a large float is as an integer is left to the machine
    if contract is Contract.EXACT:
        return [*ordinary, *(("special values", partial(_special, turn=turn), True) for turn in range(_turns(region)))]
    return [
        *ordinary,
        ("values near 0", lambda p, seed: _ordinary(p, seed, 1e-3), False),
        ("NaN", lambda p, seed: _sprinkled(p, seed, (np.nan,)), True),
        ("large values", lambda p, seed: _ordinary(p, seed, 10.0), False),
        ("Inf", lambda p, seed: _sprinkled(p, seed, (np.inf,)), True),
        ("zeros", lambda p, seed: _sprinkled(p, seed, (0.0, -0.0), every=2), False),
        ("-Inf", lambda p, seed: _sprinkled(p, seed, (-np.inf,)), True),
        ("values that are not negative", _not_negative, False),
    ]


def _named(arrays: list[Any]) -> dict[str, Any]:
    # NumPy makes scalars of arrays without dims, which the engine does not take.
    return {f"x{index}": np.asarray(cast("object", a)) if isinstance(a, np.generic) else a for index, a in enumerate(arrays)}


def _made(patterns: list[Any], fixed: list[bool], make: Callable[[Array, int], Array]) -> dict[str, Any] | None:
    """Made-up values in the shapes of the patterns; fixed ones as they are. None where a pattern is missing."""
    if any(pattern is None for pattern in patterns):
        return None
    arrays: list[Any] = []
    for seed, (pattern, keep) in enumerate(zip(patterns, fixed, strict=True)):
        arrays.append(pattern if keep or not _is_numeric(pattern) else make(pattern, seed))
    return _named(arrays)


def _is_numeric(pattern: Any) -> bool:
    return isinstance(pattern, np.ndarray) and cast("Array", pattern).dtype.kind in "fiub"


@lru_cache(maxsize=32)
def _normal(seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(POOL, np.float32)


def _tiled(pool: Array, shape: tuple[int, ...]) -> Array:
    """The pool over and over again, until the shape is full."""
    flat = np.empty(int(np.prod(shape)), pool.dtype)
    whole = flat.size // pool.size * pool.size
    flat[:whole].reshape(-1, pool.size)[:] = pool
    flat[whole:] = pool[: flat.size - whole]
    return flat.reshape(shape)


def _ordinary(pattern: Array, seed: int, scale: float) -> Array:
    """Normally distributed floats, random bools; integers as they are, because most of them mean something."""
    if pattern.dtype.kind == "f":
        return _tiled((_normal(seed) * np.float32(scale)).astype(pattern.dtype), pattern.shape)
    if pattern.dtype.kind == "b":
        return _tiled(np.random.default_rng(seed).integers(0, 2, POOL).astype(np.bool_), pattern.shape)
    return pattern


def _turns(region: Region) -> int:
    """How many feeds it takes for the smallest input of a known size to have held every special value."""
    sizes = (value.type.static_shape for value in region.inputs if isinstance(value.type, TensorType))
    smallest = min((int(np.prod(shape)) for shape in sizes if shape is not None), default=len(SPECIALS))
    return -(-len(SPECIALS) // max(1, smallest))


def _not_negative(pattern: Array, seed: int) -> Array:
    array = _ordinary(pattern, seed, 1.0)
    return np.abs(array) if array.dtype.kind == "f" else array


def _special(pattern: Array, seed: int, turn: int) -> Array:
    """Every special value in an order of this input's own, from where the turn before has ended."""
    if pattern.dtype.kind == "f":
        with np.errstate(over="ignore"):
            pool = SPECIALS.astype(pattern.dtype)
    elif pattern.dtype.kind in "iu":
        limits = np.iinfo(pattern.dtype)
        pool = np.array([limits.min, limits.max, 0, 1, limits.max // 2, 7], pattern.dtype)
    else:
        return _ordinary(pattern, seed + turn, 1.0)
    generator = np.random.default_rng(seed)
    first = np.roll(generator.permutation(pool), -turn * pattern.size)
    return _tiled(np.concatenate([first, generator.choice(pool, min(POOL, pattern.size))]), pattern.shape)


def _sprinkled(pattern: Array, seed: int, values: tuple[float, ...], every: int = 0) -> Array:
    """Ordinary values with others among them: at one or two places, or at every second."""
    array = np.array(_ordinary(pattern, seed, 1.0))
    if array.dtype.kind != "f" or not array.size:
        return array
    flat = array.reshape(-1)
    places = slice(None, None, every) if every else np.random.default_rng(seed + 1).integers(0, flat.size, 2)
    flat[places] = np.resize(np.array(values, array.dtype), flat[places].shape)
    return array


def _pattern(value: Value, real: Any | None, sizes: Mapping[str, int]) -> Any | None:
    """An array of the shape and dtype of a value, holding what it is known to hold; None where its shape is unknown."""
    if real is not None:
        return real
    kind = value.type
    if (
        not isinstance(kind, TensorType)
        or kind.shape is None
        or not (kind.dtype is DType.STR or kind.dtype.numpy.kind in "fiub")
    ):
        return None
    named = {name: sizes.get(name, 2) for name in _names(value)}
    shape = [dims.evaluate(dim, named) for dim in kind.shape]
    if any(size is None or size < 0 for size in shape):
        return None
    full = [size for size in shape if size is not None]
    content = shapes.content_of(value)
    if content is not None:
        numbers = [dims.evaluate(dim, named) for dim in content]
        if len(numbers) == int(np.prod(full)):
            return np.array([1 if n is None else n for n in numbers], kind.dtype.numpy).reshape(full)
    if kind.dtype is DType.STR:
        return np.full(full, "a", object)
    return np.ones(full, kind.dtype.numpy)


def _names(value: Value) -> set[str]:
    found = {name for dim in value.shape or () if isinstance(dim, SymbolicDim) for name in dim.names()}
    return found | {name for dim in value.content or () if isinstance(dim, SymbolicDim) for name in dim.names()}


def _is_fixed(value: Value, region: Region) -> bool:
    """Whether a value decides on shapes, places or divisions of integers, and so must not be made up."""
    if value.content is not None:
        return True
    kind = value.type
    if not isinstance(kind, TensorType):
        return True
    harmless = _takes_any_float if kind.dtype.is_float else _takes_any_integer
    members, seen = set(region.ops), {value}
    pending = [value]
    while pending:
        for use in pending.pop().uses:
            if not isinstance(use.user, Op) or use.user not in members:
                continue
            if not harmless(use.user, use.index):
                return True
            fresh = [r for r in use.user.results if r not in seen]
            seen.update(fresh)
            pending.extend(fresh)
    return False


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ELEMENTWISE = _words(
    "Add Sub Mul Abs Neg Sign Min Max Clip Where Equal Less LessOrEqual Greater GreaterOrEqual And Or Xor Not Sum Identity "
    "BitwiseAnd BitwiseOr BitwiseXor BitwiseNot Cast CastLike Concat Relu IsNaN IsInf Floor Ceil Round"
)
_MOVES = _words(
    "Reshape Transpose Squeeze Unsqueeze Flatten Slice Split Gather GatherElements GatherND Expand Tile Pad Shape Size "
    "ReduceSum ReduceMax ReduceMin ReduceProd Compress DepthToSpace SpaceToDepth Trilu ReverseSequence"
)


def _takes_any_integer(op: Op, index: int) -> bool:
    if op.is_a("Div") and index == 0:
        divisor = op.constant_operand(1)
        return divisor is not None and bool((divisor.array > 0).all())
    return not op.domain and (op.name in _ELEMENTWISE or (op.name in _MOVES and index == 0))


def _takes_any_float(op: Op, index: int) -> bool:
    chooses = op.bodies or op.is_a("Range") or (op.is_a("Resize", "Upsample", "OneHot") and index > 0)
    return not chooses and not (op.is_a("Cast", "CastLike") and _casts_to_integer(op))


def _casts_to_integers(region: Region) -> bool:
    return any(op.is_a("Cast", "CastLike") and _casts_to_integer(op) for op in region.ops)


def _casts_to_integer(op: Op) -> bool:
    source, target = op.needed(0).type, op.results[0].type
    if not isinstance(source, TensorType) or not isinstance(target, TensorType):
        return True
    return source.dtype.is_float and target.dtype.is_integer
