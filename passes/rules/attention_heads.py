"""What stands around attention: heads cut out of rows and put together again, heads repeated for groups, caches.

Law: only data movement is absorbed, and only where all operands of the op allow the same form.
"""

from __future__ import annotations

from irc.ir import Attribute, Dim, Graph, Op, Tensor, Value, dims

from ..rewriter import No, Rewriter, Rule, rule

_HEADS_SECOND = (0, 2, 1, 3)
_FROM_LENGTH_FIRST = (1, 2, 0, 3)
_TO_LENGTH_FIRST = (2, 0, 1, 3)
_REPEATS = ("Expand", "Tile")


def without_repeats(key: Value, value: Value, query: Value, rewrite: Rewriter) -> tuple[Value, Value]:
    """Key and value without the repetition of each head for a group of query heads; both as they are where it is no such."""
    heads = _size(query, 1)
    plain = [_unrepeated(v, rewrite) for v in (key, value)]
    if heads is None or plain[0] is None or plain[1] is None:
        return key, value
    return (plain[0], plain[1]) if _size(plain[0], 1) == _size(plain[1], 1) is not None else (key, value)


def _unrepeated(value: Value, rewrite: Rewriter) -> Value | None:
    """x behind Reshape(Expand(Unsqueeze(x, 2), (B, H, n, S, D)), (B, H * n, S, D)), or behind Expand of one head."""
    op, shape = value.op, value.shape
    if op is None or shape is None or len(shape) != 4:
        return None
    if op.is_a(*_REPEATS):
        source = op.needed(0)
        return source if _size(source, 1) == 1 and _others_agree(source.shape, shape, 1) else None
    while op.is_a("Reshape"):
        inner = op.needed(0).op
        if inner is None or not inner.is_a("Reshape", *_REPEATS):
            return None
        op = inner
    if not op.is_a(*_REPEATS):
        return None
    wide = op.result.shape
    if wide is None or len(wide) != 5:
        return None
    narrow = op.needed(0)
    if narrow.shape is None or len(narrow.shape) != 5 or narrow.shape[2] != 1 or not _others_agree(narrow.shape, wide, 2):
        return None
    merged = dims.multiply(wide[1], wide[2])
    if merged is None or merged != shape[1] or (wide[0], *wide[3:]) != (shape[0], *shape[2:]) or None in shape:
        return None
    return _without_dim(narrow, 2, rewrite)


def _without_dim(value: Value, axis: int, rewrite: Rewriter) -> Value:
    """A value without a dim of size 1: what it was put into, or else a squeeze, in front of a transpose where there is one."""
    op, shape = value.op, value.shape or ()
    if op is not None and op.is_a("Unsqueeze", "Reshape") and op.needed(0).shape == (*shape[:axis], *shape[axis + 1 :]):
        return op.needed(0)
    permutation = op.integers("perm") if op is not None and op.is_a("Transpose") else None
    if op is None or permutation is None:
        return rewrite.op("Squeeze", [value, rewrite.constant(Tensor.integers([axis]))])
    gone = permutation[axis]
    inner = _without_dim(op.needed(0), gone, rewrite)
    kept = tuple(p - (p > gone) for p in permutation if p != gone)
    return rewrite.op("Transpose", [inner], {"perm": kept})


def _others_agree(first: tuple[Dim, ...] | None, second: tuple[Dim, ...], axis: int) -> bool:
    if first is None or len(first) != len(second):
        return False
    return all(i == axis or (a is not None and a == b) for i, (a, b) in enumerate(zip(first, second, strict=True)))


def _size(value: Value, axis: int) -> int | None:
    size = None if value.shape is None or len(value.shape) <= axis else value.shape[axis]
    return size if isinstance(size, int) else None


@rule("Attention")
def shared_heads(op: Op, rewrite: Rewriter) -> Value | No:
    """Attention over key and value heads repeated for groups of query heads is attention with fewer of them."""
    if len(op.results) != 1 or any(op.operand(i) is not None for i in (4, 5)):
        return No("it keeps a cache")
    query, key, value = (op.needed(i) for i in range(3))
    plain = without_repeats(key, value, query, rewrite)
    heads, own = _size(query, 1), _size(plain[0], 1)
    if plain[0] is key or heads is None or not own or heads % own:
        return No("its heads are not repeated")
    return rewrite.op("Attention", [query, *plain, *op.operands[3:]], dict(op.attributes))


@rule("Transpose", "Reshape", over=["Attention"])
def attention_of_rows(op: Op, rewrite: Rewriter) -> Value | No:
    """Attention between heads cut out of rows and put together again takes the rows: (B, S, H * D), not (B, H, S, D)."""
    inner = op.needed(0).op
    if inner is None or not inner.is_a("Attention") or len(op.needed(0).shape or ()) != 4:
        return No("its input is no attention of separate heads")
    if not op.needed(0).has_one_use or inner.graph is not op.graph:
        return No("the attention is used elsewhere too", 2)
    if op.is_a("Transpose") and op.integers("perm") not in (_HEADS_SECOND, _TO_LENGTH_FIRST):
        return No("it puts heads elsewhere", 2)
    shape, heads = op.needed(0).shape or (), _size(inner.needed(0), 1)
    if op.is_a("Reshape") and (heads != 1 or op.result.shape != (*shape[:1], *shape[2:]) or None in shape):
        return No("it does more than drop the one head", 2)
    widths = (_size(inner.needed(0), 3), _size(inner.needed(2), 3))
    own = _size(inner.needed(1), 1)
    if not heads or not own or not all(widths):
        return No("its heads or their width are not known", 2)
    if not all(_is_cut(inner.needed(i)) for i in range(3)):
        return _packed(op, inner, heads, rewrite)
    rows = [_rows(inner.needed(i), rewrite) for i in range(3)]
    return _over_rows(op, inner, rows, (heads, own), rewrite)


def _over_rows(op: Op, inner: Op, rows: list[Value], heads: tuple[int, int], rewrite: Rewriter) -> Value | No:
    attributes: dict[str, Attribute] = {**inner.attributes, "q_num_heads": heads[0], "kv_num_heads": heads[1]}
    extra = inner.operands[3:]
    if len(inner.results) > 1:
        return No("it keeps a cache", 2)
    answer = rewrite.op("Attention", [*rows, *extra], attributes)
    if op.is_a("Reshape"):
        return answer
    width = _size(inner.needed(2), 3)
    assert width is not None
    if op.integers("perm") == _TO_LENGTH_FIRST:
        answer = rewrite.op("Transpose", [answer], {"perm": (1, 0, 2)})
    return rewrite.op("Reshape", [answer, rewrite.constant(Tensor.integers([0, 0, heads[0], width]))])


def _is_cut(value: Value) -> bool:
    """Whether (B, H, S, D) is a transpose of (B, S, H, D), a view of (B, S, D), or a rotation of such."""
    op = value.op
    if op is None:
        return False
    if op.is_a("RotaryEmbedding"):
        return value.has_one_use and _is_cut(op.needed(0)) and _size(value, 1) is not None
    if _length_first(value) is not None:
        return True
    if op.is_a("Transpose"):
        return op.integers("perm") == _HEADS_SECOND and _size(value, 1) is not None and _size(value, 3) is not None
    shape = value.shape or ()
    if op.is_a("Reshape", "Unsqueeze") and len(shape) == 4 and shape[1] == 1:
        return op.needed(0).shape == (shape[0], *shape[2:]) and None not in shape
    return False


def _length_first(value: Value) -> Value | None:
    """The rows (S, B, H * D) that heads are cut out of, B and H perhaps in one dim on the way (nn.MultiheadAttention)."""
    op, shape = value.op, value.shape or ()
    if op is None or len(shape) != 4 or None in shape or not isinstance(shape[1], int) or not isinstance(shape[3], int):
        return None
    wanted = (shape[2], shape[0], shape[1] * shape[3])
    if op.is_a("Transpose") and op.integers("perm") == _FROM_LENGTH_FIRST:
        apart = op.needed(0).op
        return apart.needed(0) if apart is not None and apart.is_a("Reshape") and apart.needed(0).shape == wanted else None
    turned = op.needed(0).op if op.is_a("Reshape") else None
    if turned is None or not turned.is_a("Transpose") or turned.integers("perm") != (1, 0, 2):
        return None
    merged = turned.needed(0).op
    if turned.needed(0).shape != (shape[2], dims.multiply(shape[0], shape[1]), shape[3]) or merged is None:
        return None
    return merged.needed(0) if merged.is_a("Reshape") and merged.needed(0).shape == wanted else None


def _rows(value: Value, rewrite: Rewriter) -> Value:
    """The rows (B, S, H * D) that `_is_cut` found heads to be cut out of."""
    op, heads, width = value.op, _size(value, 1), _size(value, 3)
    assert op is not None
    if op.is_a("RotaryEmbedding"):
        attributes: dict[str, Attribute] = {**op.attributes, "num_heads": heads or 0}
        return rewrite.op("RotaryEmbedding", [_rows(op.needed(0), rewrite), *op.operands[1:]], attributes)
    first = _length_first(value)
    if first is not None:
        return rewrite.op("Transpose", [first], {"perm": (1, 0, 2)})
    if not op.is_a("Transpose"):
        return op.needed(0)
    apart = op.needed(0)
    assert heads is not None
    assert width is not None
    maker, shape = apart.op, apart.shape or ()
    if maker is not None and maker.is_a("Reshape"):
        source = maker.needed(0).shape
        if source is not None and len(source) == 3 and rewrite.same_dims(source, (*shape[:2], heads * width)):
            return maker.needed(0)
    return rewrite.op("Reshape", [apart, rewrite.constant(Tensor.integers([0, 0, heads * width]))])


def _packed(op: Op, inner: Op, heads: int, rewrite: Rewriter) -> Value | No:
    """q, k, v that are 0, 1, 2 of Transpose(Reshape(x, (B, S, 3, H, D)), (2, 0, 3, 1, 4)) are thirds of the rows of x."""
    entries = [_entry(inner.needed(i)) for i in range(3)]
    if any(entry is None for entry in entries):
        return No("its heads are not cut out of rows", 2)
    found = [entry for entry in entries if entry is not None]
    whole = next(iter(found))[0]
    if any(entry[0] is not whole for entry in found) or [entry[1] for entry in found] != [0, 1, 2]:
        return No("its heads are not thirds of the same rows", 2)
    reshape = whole.needed(0).op
    shape = whole.needed(0).shape or ()
    width = _size(inner.needed(0), 3)
    if whole.integers("perm") != (2, 0, 3, 1, 4) or reshape is None or not reshape.is_a("Reshape") or width is None:
        return No("its heads are not thirds of rows", 2)
    source = reshape.needed(0)
    if shape[2:] != (3, heads, width) or not rewrite.same_dims(source.shape, (*shape[:2], 3 * heads * width)):
        return No("its heads are not thirds of rows", 2)
    first = rewrite.op("Split", [source], {"axis": -1, "num_outputs": 3}, results=3)
    assert first.op is not None
    return _over_rows(op, inner, list(first.op.results), (heads, heads), rewrite)


def _entry(value: Value) -> tuple[Op, int] | None:
    """The Transpose of rank 5 and the index along its first dim that a value of rank 4 is."""
    op = value.op
    if op is None:
        return None
    index: int | None = None
    if op.is_a("Gather") and op.integer("axis", 0) == 0:
        index = _number(op.operand(1))
    elif (
        op.is_a("Squeeze", "Reshape")
        and (op.needed(0).shape or ())[:1] == (1,)
        and (op.needed(0).shape or ())[1:] == value.shape
    ):
        op = op.needed(0).op
        if op is None:
            return None
        if op.is_a("Slice"):
            index = _number(op.operand(1)) if _number(op.operand(3)) == 0 else None
        elif op.is_a("Split") and op.integer("axis", 0) == 0:
            index = next(i for i, r in enumerate(op.results) if r is value.op.needed(0)) if value.op is not None else None
    whole = op.needed(0).op if op.operands and op.operand(0) is not None else None
    if whole is None or index is None or not whole.is_a("Transpose") or len(whole.result.shape or ()) != 5:
        return None
    return whole, index


def _number(value: Value | None) -> int | None:
    tensor = None if value is None else value.constant
    return int(tensor.array.reshape(-1)[0]) if tensor is not None and tensor.size == 1 else None


@rule("Attention", over=["Concat"])
def attention_with_cache(op: Op, rewrite: Rewriter) -> Value | No:
    """Attention over a cache that new keys and values are concatenated to takes both, and gives the longer cache."""
    if len(op.results) != 1 or len(op.operands) > 4 or op.integer("is_causal", 0):
        return No("it has a cache, or its causal mask would count from the end of one")
    joins = [op.needed(i).op for i in (1, 2)]
    key, value = joins
    if key is None or value is None or not key.is_a("Concat") or not value.is_a("Concat"):
        return No("its keys and values are not concatenated")
    for join in (key, value):
        rank = len(join.result.shape or ())
        if rank != 4 or len(join.operands) != 2 or join.integer("axis", 0) not in (2, -2):
            return No("its keys and values are not two concatenated along their lengths", 2)
        if any(not isinstance(user, Graph) and user is not op for user, _ in join.result.uses):
            return No("its longer cache is used elsewhere too", 2)
    lengths = [(join.needed(i).shape or ())[2:3] for i in (0, 1) for join in (key, value)]
    if not rewrite.same_dims(lengths[0], lengths[1]) or not rewrite.same_dims(lengths[2], lengths[3]):
        return No("its keys and values are not proved to be of one length", 2)
    mask = op.operand(3)
    operands = [op.operand(0), key.operand(1), value.operand(1), mask, key.operand(0), value.operand(0)]
    return rewrite.op("Attention", operands, dict(op.attributes), results=3)


@rule("Concat")
def cache_of_attention(op: Op, rewrite: Rewriter) -> Value | No:
    """The concatenation of a cache and what an Attention adds to it is what that Attention gives."""
    if len(op.operands) != 2 or any(not isinstance(user, Graph) for user, _ in op.result.uses):
        return No("it is no longer cache that is given back")
    past, new = op.needed(0), op.needed(1)
    for user in past.users:
        if not user.is_a("Attention") or len(user.results) < 3 or user.graph is not op.graph or new.shape != new.shape:
            continue
        for index in (1, 2):
            if user.operand(3 + index) is past and user.operand(index) is new:
                return user.results[index]
    return No("no attention takes it")


RULES: tuple[Rule, ...] = (shared_heads, attention_with_cache, cache_of_attention, attention_of_rows)


__all__ = ["RULES", "without_repeats"]
