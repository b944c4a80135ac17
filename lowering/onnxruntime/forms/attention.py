"""Attention as the kernel of ONNX Runtime runs it fastest: on [B,S,H*D], as projections leave it.

Measured on 2 threads (benchmarks/forms.py, f32, time against MatMul, Softmax, MatMul with the transposes around them):

    form                      Attention 3D   Attention 4D   MultiHeadAttention   GroupQueryAttention
    bert 128 x 12 heads           0.77           0.97             1.06                 –
    bert, additive mask           0.52           1.00             1.15                 –
    bert, boolean mask            0.55           1.03             1.18                 –
    gpt2, causal                  0.56           1.04             1.17                1.29
    llama, 12 heads on 4          0.77           0.91             1.11                1.02
    vit 197 x 6 heads             0.77           0.98             0.96                 –
    1024 x 12 heads               0.94           0.97             0.87                 –
    decode, past 511              0.85           0.98             0.93                2.27
    decode, 12 heads on 4         0.54           0.59              –                  0.70
    segformer 4096 x 1 head       1.60           1.76             1.14                 –
    segformer 1024 x 2 heads      0.80           0.99             0.96                 –
    segformer 256 x 5 heads       0.68           1.05             0.86                 –

So the contrib ops win nowhere but on long sequences without a mask; a single head is worked by a single thread.
com.microsoft's Attention, which takes the projections in as well, takes 1.02 (bert), 0.99 (vit) and, where calls are most of
the time (8 tokens, 2 heads of 25), 0.85 of the time of MatMuls, Adds and Attention (one thread).
The kernel also gives fully masked rows zeros and shifts the causal frontier by the past, as ONNX says.
"""

from __future__ import annotations

import math

import numpy as np

from irc.ir import Attribute, DType, Op, Tensor, TensorType, Value
from irc.passes import Contract, No, Rewriter, Rule, rule

from .facts import MICROSOFT, dtype_of, number, static_dims, swaps_middle

_QUERY, _KEY, _VALUE, _MASK, _PAST_KEY, _PAST_VALUE, _NONPAD = range(7)


@rule("Attention", contract=Contract.REASSOCIATING)
def attention_on_joined_heads(op: Op, rewrite: Rewriter) -> Value | list[Value] | No:
    """Attention of [B,H,S,D] between transposes is Attention of [B,S,H*D]; one transpose may have to be made for it."""
    values = [op.needed(index) for index in (_QUERY, _KEY, _VALUE)]
    sizes = [static_dims(value, 1, 3) for value in values]
    if any(value.shape is None or len(value.shape) != 4 for value in values):
        return No("its operands are not known to be 4D")
    if any(size is None for size in sizes):
        return No("its numbers of heads and their sizes are not known")
    sources = [_source(value) for value in values]
    joined = _is_joined(op.results[0])
    if sum(source is not None for source in sources) + joined < 3:
        return No("too few transposes around it would vanish")
    (query_heads, _), (key_heads, _), (_, value_size) = (size for size in sizes if size is not None)
    flat = [_flat(rewrite, value, source) for value, source in zip(values, sources, strict=True)]
    attributes: dict[str, Attribute] = {**op.attributes, "q_num_heads": query_heads, "kv_num_heads": key_heads}
    first = rewrite.op("Attention", [*flat, *op.operands[_MASK:]], attributes, results=len(op.results))
    assert first.op is not None
    apart = rewrite.op("Reshape", [first, rewrite.constant(Tensor.integers((0, 0, query_heads, value_size)))])
    return [rewrite.op("Transpose", [apart], {"perm": (0, 2, 1, 3)}), *first.op.results[1:]]


def _source(value: Value) -> tuple[Op, list[Op]] | None:
    """The Transpose that puts the heads of [B,S,H,D] in front, and the rotations behind it, last first."""
    rotations: list[Op] = []
    while (op := value.op) is not None:
        if swaps_middle(op):
            return op, rotations
        if not op.is_a("RotaryEmbedding") or not value.has_one_use:
            return None
        rotations.append(op)
        value = op.needed(0)
    return None


def _is_joined(result: Value) -> bool:
    users = result.users
    return len(users) == 1 and result.has_one_use and swaps_middle(users[0])


def _flat(rewrite: Rewriter, value: Value, source: tuple[Op, list[Op]] | None) -> Value:
    """[B,H,S,D] as [B,S,H*D], with what rotates it moved behind."""
    sizes = static_dims(value, 1, 3)
    assert sizes is not None
    heads, size = sizes
    if source is None:
        swapped, rotations = rewrite.op("Transpose", [value], {"perm": (0, 2, 1, 3)}), list[Op]()
    else:
        swapped, rotations = source[0].needed(0), source[1]
    flat = rewrite.op("Reshape", [swapped, rewrite.constant(Tensor.integers((0, 0, heads * size)))])
    for rotation in reversed(rotations):
        flat = rewrite.op("RotaryEmbedding", [flat, *rotation.operands[1:]], {**rotation.attributes, "num_heads": heads})
    return flat


@rule("Transpose")
def heads_moved_and_back(op: Op, rewrite: Rewriter) -> Value | No:
    """Swapping the middle dims twice moves nothing."""
    inner = op.needed(0).op
    if not swaps_middle(op) or inner is None or not swaps_middle(inner):
        return No("it and its input do not both swap the middle dims")
    return inner.needed(0)


@rule("Reshape")
def heads_split_and_joined(op: Op, rewrite: Rewriter) -> Value | No:
    """A Reshape of a Reshape that gives back the first shape is nothing."""
    inner = op.needed(0).op
    if inner is None or not inner.is_a("Reshape"):
        return No("its input is no Reshape")
    source = inner.needed(0)
    if not rewrite.same_type(source, op.result):
        return No("it does not give back the shape before its input")
    return source


@rule("Attention", contract=Contract.REASSOCIATING)
def attention_of_one_head(op: Op, rewrite: Rewriter) -> Value | No:
    """The kernel runs one head on one thread; two MatMuls and a Softmax run it on all."""
    query, key, value = (op.needed(index) for index in (_QUERY, _KEY, _VALUE))
    if any(operand is not None for operand in op.operands[_MASK:]) or any(result.uses for result in op.results[1:]):
        return No("it has a mask or a past, or gives more than one result")
    if any(number(op, name, 0) for name in ("is_causal", "softcap", "softmax_precision")):
        return No("it is causal, capped, or in another precision")
    if any(dtype_of(operand) is not DType.F32 for operand in (query, key, value)):
        return No("it is not f32")
    if _heads(op) != 1:
        return No("it has several heads or samples")
    size = static_dims(query, -1)
    if size is None or not size[0]:
        return No("the size of its heads is not known")
    scale = number(op, "scale", 1 / math.sqrt(size[0]))
    product = rewrite.op("FusedMatMul", [query, key], {"transB": 1, "alpha": scale}, domain=MICROSOFT)
    assert query.shape is not None
    product.type = TensorType(DType.F32, (*query.shape[:-1], None if key.shape is None else key.shape[-2]))
    return rewrite.op("MatMul", [rewrite.op("Softmax", [product], {"axis": -1}), value])


def _heads(op: Op) -> int | None:
    """Heads of all samples together, where keys have as many; None when that is not known."""
    query, key = op.needed(_QUERY), op.needed(_KEY)
    if query.shape is None or key.shape is None or len(query.shape) != len(key.shape):
        return None
    if len(query.shape) == 3:
        batch, heads, shared = static_dims(query, 0), op.integer("q_num_heads", 0), op.integer("kv_num_heads", 0)
        return batch[0] * heads if batch is not None and heads == shared else None
    own, others = static_dims(query, 0, 1), static_dims(key, 1)
    return own[0] * own[1] if own is not None and others is not None and own[1] == others[0] else None


@rule("Attention", contract=Contract.REASSOCIATING)
def past_without_present(op: Op, rewrite: Rewriter) -> Value | list[Value] | No:
    """The kernel wants both presents asked for where there is a past; without them, the keys are joined in front.

    Then nonpad_kv_seqlen, the number of all keys, puts the causal frontier where the past had put it.
    """
    past_key, past_value = op.operand(_PAST_KEY), op.operand(_PAST_VALUE)
    if past_key is None or past_value is None or op.operand(_NONPAD) is not None:
        return No("it has no past")
    if len(op.results) > 3 and op.results[3].uses:
        return No("its scores are asked for")
    if len(op.results) > 2 and all(result.uses for result in op.results[1:3]):
        return No("its presents are asked for")
    query = op.needed(_QUERY)
    if query.shape is None or op.needed(_KEY).shape is None or len(op.needed(_KEY).shape or ()) != len(query.shape):
        return No("its ranks are not known")
    flat = len(query.shape) == 3
    heads = {_QUERY: op.integer("q_num_heads", 0), _KEY: op.integer("kv_num_heads", 0), _VALUE: op.integer("kv_num_heads", 0)}
    apart = [_apart(rewrite, op.needed(i), heads[i]) if flat else op.needed(i) for i in (_QUERY, _KEY, _VALUE)]
    key = rewrite.op("Concat", [past_key, apart[_KEY]], {"axis": 2})
    value = rewrite.op("Concat", [past_value, apart[_VALUE]], {"axis": 2})
    operands = [apart[_QUERY], key, value, op.operand(_MASK)]
    if op.integer("is_causal", 0):
        operands += [None, None, _lengths(rewrite, key)]
    attributes = {name: each for name, each in op.attributes.items() if name not in ("q_num_heads", "kv_num_heads")}
    first = rewrite.op("Attention", operands, attributes)
    if flat:
        joined = rewrite.op("Transpose", [first], {"perm": (0, 2, 1, 3)})
        first = rewrite.op("Reshape", [joined, rewrite.constant(Tensor.integers((0, 0, -1)))])
    return [first, key, value, *op.results[3:]][: len(op.results)]


def _apart(rewrite: Rewriter, value: Value, heads: int) -> Value:
    """[B,S,H*D] as [B,H,S,D]."""
    split = rewrite.op("Reshape", [value, rewrite.constant(Tensor.integers((0, 0, heads, -1)))])
    return rewrite.op("Transpose", [split], {"perm": (0, 2, 1, 3)})


def _lengths(rewrite: Rewriter, key: Value) -> Value:
    """For each sample of [B,H,T,D], T."""
    sizes = static_dims(key, 0, 2)
    if sizes is not None:
        return rewrite.constant(Tensor.from_array(np.full(sizes[0], sizes[1], np.int64)))
    length = rewrite.op("Shape", [key], {"start": 2, "end": 3})
    return rewrite.op("Expand", [length, rewrite.op("Shape", [key], {"start": 0, "end": 1})])


@rule("Attention", contract=Contract.REASSOCIATING)
def half_attention_in_single(op: Op, rewrite: Rewriter) -> Value | list[Value] | No:
    """Attention of f16 is that of f32 between casts: the kernel for f16 rounds every step, and is off by two units."""
    if dtype_of(op.operand(_QUERY)) is not DType.F16:
        return No("it is not f16")
    wide = [_cast(rewrite, value, DType.F32) if dtype_of(value) is DType.F16 else value for value in op.operands]
    attributes = {name: value for name, value in op.attributes.items() if name != "softmax_precision"}
    first = rewrite.op("Attention", wide, attributes, results=len(op.results))
    assert first.op is not None
    return [_cast(rewrite, result, DType.F16) for result in first.op.results]


def _cast(rewrite: Rewriter, value: Value | None, dtype: DType) -> Value:
    return rewrite.op("Cast", [value], {"to": dtype.onnx_code})


RULES: tuple[Rule, ...] = (
    half_attention_in_single,
    past_without_present,
    attention_of_one_head,
    attention_on_joined_heads,
    heads_moved_and_back,
    heads_split_and_joined,
)
