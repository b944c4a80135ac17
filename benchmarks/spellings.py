"""The forms that benchmarks/forms.py measures: for each, one small graph in several ways, and what to feed it."""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
from onnx import ModelProto, helper, numpy_helper

Ways = tuple[dict[str, ModelProto], dict[str, np.ndarray]]
MS = "com.microsoft"


class Sketch:
    """A graph being written down: calling it adds a node and gives the name of its first result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, op: str, *operands: str, domain: str = "", results: int = 1, **attributes: object) -> str:
        names = [f"v{len(self.nodes)}_{index}" for index in range(results)]
        self.nodes.append(helper.make_node(op, operands, names, domain=domain, **attributes))
        return names[0]

    def constant(self, value: object, dtype: type = np.float32) -> str:
        """The name of a new constant."""
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def second(self, index: int) -> str:
        """The result `index` of the last node."""
        return self.nodes[-1].output[index]

    def model(self, feeds: dict[str, np.ndarray], *outputs: str) -> ModelProto:
        """The model, with inputs of the shapes that are fed."""
        element = helper.np_dtype_to_tensor_dtype
        inputs = [helper.make_tensor_value_info(n, element(v.dtype), v.shape) for n, v in feeds.items()]
        results = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(self.nodes, "form", inputs, results, self.constants)
        imports = [helper.make_opsetid("", 24), helper.make_opsetid(MS, 1)]
        return helper.make_model(graph, ir_version=11, opset_imports=imports)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Random f32 numbers, the same each time."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# --- attention ---------------------------------------------------------------------------------------------------------


def split_heads(s: Sketch, x: str, heads: int, perm: tuple[int, ...] = (0, 2, 1, 3)) -> str:
    """[B,S,H*D] as [B,H,S,D]."""
    return s("Transpose", s("Reshape", x, s.constant([0, 0, heads, -1], np.int64)), perm=list(perm))


def join_heads(s: Sketch, x: str) -> str:
    """[B,H,S,D] as [B,S,H*D]."""
    return s("Reshape", s("Transpose", x, perm=[0, 2, 1, 3]), s.constant([0, 0, -1], np.int64))


def attention(batch: int, queries: int, keys: int, heads: int, groups: int, size: int, mask: str = "", past: int = 0) -> Ways:
    """q, k and v as projections leave them, [B,S,H*D], to [B,S,H*D]; mask is "", "additive", "bool" or "causal"."""
    feeds = {
        "q": normal(batch, queries, heads * size, seed=1),
        "k": normal(batch, keys, groups * size, seed=2),
        "v": normal(batch, keys, groups * size, seed=3),
    }
    total = keys + past
    if mask == "additive":
        feeds["mask"] = np.where(np.random.default_rng(4).random((1, 1, queries, total)) < 0.2, -1e4, 0).astype(np.float32)
    if mask == "bool":
        feeds["mask"] = np.random.default_rng(4).random((1, 1, queries, total)) < 0.8
    if past:
        feeds["past_k"], feeds["past_v"] = normal(batch, groups, past, size, seed=5), normal(batch, groups, past, size, seed=6)
    fact = dict(heads=heads, groups=groups, size=size, mask=mask, past=past, queries=queries, total=total)
    ways: dict[str, Callable[[Sketch], list[str]]] = {
        "primitives, scale on both sides": partial(primitives, **fact, matmul="both"),
        "primitives, scale behind": partial(primitives, **fact, matmul="behind"),
        "primitives, scale on q": partial(primitives, **fact, matmul="q"),
        "primitives, FusedMatMul": partial(primitives, **fact, matmul="fused"),
        "Attention, 3D": partial(onnx_attention, **fact, flat=True),
        "Attention, 4D": partial(onnx_attention, **fact, flat=False),
        "MultiHeadAttention": partial(multi_head, **fact),
    }
    if mask in ("", "causal"):
        ways["GroupQueryAttention"] = partial(group_query, **fact)
    models = {}
    if groups != heads and past:
        ways.pop("MultiHeadAttention")
    for way, write in ways.items():
        s = Sketch()
        models[way] = s.model(feeds, *write(s))
    return models, feeds


def primitives(
    s: Sketch, *, heads: int, groups: int, size: int, mask: str, past: int, queries: int, total: int, matmul: str
) -> list[str]:
    """Attention written out."""
    scale = size**-0.5
    q, v = split_heads(s, "q", heads), split_heads(s, "v", groups)
    straight = past or groups != heads or matmul == "fused"
    k = split_heads(s, "k", groups, (0, 2, 1, 3) if straight else (0, 2, 3, 1))
    present = []
    if past:
        k, v = s("Concat", "past_k", k, axis=2), s("Concat", "past_v", v, axis=2)
        present = [k, v]
    if groups != heads:
        k, v = (_repeat(s, x, heads, groups, size, total) for x in (k, v))
    if straight and matmul != "fused":
        k = s("Transpose", k, perm=[0, 1, 3, 2])
    if matmul == "fused":
        scores = s("FusedMatMul", q, k, domain=MS, transB=1, alpha=scale)
    elif matmul == "both":
        scores = s("MatMul", s("Mul", q, s.constant(scale**0.5)), s("Mul", k, s.constant(scale**0.5)))
    elif matmul == "q":
        scores = s("MatMul", s("Mul", q, s.constant(scale)), k)
    else:
        scores = s("Mul", s("MatMul", q, k), s.constant(scale))
    scores = _masked(s, scores, mask, queries, total)
    return [join_heads(s, s("MatMul", s("Softmax", scores, axis=-1), v)), *present]


def _repeat(s: Sketch, x: str, heads: int, groups: int, size: int, total: int) -> str:
    wide = s("Expand", s("Unsqueeze", x, s.constant([2], np.int64)), s.constant([1, 1, heads // groups, 1, 1], np.int64))
    return s("Reshape", wide, s.constant([0, heads, total, size], np.int64))


def _masked(s: Sketch, scores: str, mask: str, queries: int, total: int) -> str:
    if mask == "additive":
        return s("Add", scores, "mask")
    if mask == "bool":
        return s("Add", scores, s("Where", "mask", s.constant(0.0), s.constant(-np.inf)))
    if mask == "causal":
        return s("Add", scores, s.constant(np.triu(np.full((1, 1, queries, total), -np.inf), 1 + total - queries)))
    return scores


def onnx_attention(
    s: Sketch, *, heads: int, groups: int, size: int, mask: str, past: int, queries: int, total: int, flat: bool
) -> list[str]:
    """ONNX's own op."""
    operands = ["q", "k", "v"] if flat else [split_heads(s, "q", heads), split_heads(s, "k", groups), split_heads(s, "v", groups)]
    operands += ["mask" if mask in ("additive", "bool") else ""] + (["past_k", "past_v"] if past else [])
    attributes = dict(q_num_heads=heads, kv_num_heads=groups) if flat else {}
    y = s("Attention", *operands, results=3 if past else 1, is_causal=int(mask == "causal"), **attributes)
    present = [s.second(1), s.second(2)] if past else []
    return [y if flat else join_heads(s, y), *present]


def multi_head(
    s: Sketch, *, heads: int, groups: int, size: int, mask: str, past: int, queries: int, total: int
) -> list[str]:
    """ONNX Runtime's op for equally many heads everywhere; heads that several queries share are repeated before."""
    k, v = "k", "v"
    if groups != heads:
        shape, wide = s.constant([0, 0, groups, 1, size], np.int64), s.constant([1, 1, 1, heads // groups, 1], np.int64)
        k, v = (
            s("Reshape", s("Expand", s("Reshape", x, shape), wide), s.constant([0, 0, heads * size], np.int64)) for x in (k, v)
        )
    bias = "mask" if mask == "additive" else ""
    if mask == "bool":
        bias = s("Where", "mask", s.constant(0.0), s.constant(-np.inf))
    operands = ["q", k, v, "", "", bias] + (["past_k", "past_v"] if past else [])
    y = s(
        "MultiHeadAttention", *operands, domain=MS, results=3 if past else 1, num_heads=heads, unidirectional=int(mask == "causal")
    )
    return [y, *([s.second(1), s.second(2)] if past else [])]


def group_query(
    s: Sketch, *, heads: int, groups: int, size: int, mask: str, past: int, queries: int, total: int
) -> list[str]:
    """ONNX Runtime's op for decoders, always causal; it gives present keys and values whether asked or not."""
    last = s.constant(np.full(1, total - 1), np.int32)
    operands = ["q", "k", "v", "past_k" if past else "", "past_v" if past else "", last, s.constant(total, np.int32)]
    y = s("GroupQueryAttention", *operands, domain=MS, results=3, num_heads=heads, kv_num_heads=groups)
    return [y, *([s.second(1), s.second(2)] if past else [])]


# --- the rest -----------------------------------------------------------------------------------------------------------


def ways_of(feeds: dict[str, np.ndarray], **writes: Callable[[Sketch], str | tuple[str, ...]]) -> Ways:
    """Ways whose names are the keywords, with `_` for blanks."""
    models = {}
    for way, write in writes.items():
        s = Sketch()
        results = write(s)
        models[way.replace("__", ",").replace("_", " ")] = s.model(feeds, *((results,) if isinstance(results, str) else results))
    return models, feeds


def gelu(*shape: int) -> Ways:
    """x * (1 + erf(x / sqrt 2)) / 2"""
    return ways_of(
        {"x": normal(*shape)},
        written_out_without_GeluFusionL1__GeluFusionL2=lambda s: s(
            "Mul", s("Mul", "x", s.constant(0.5)), s("Add", s("Erf", s("Div", "x", s.constant(2**0.5))), s.constant(1.0))
        ),
        Gelu=lambda s: s("Gelu", "x"),
        Gelu_of_com_microsoft=lambda s: s("Gelu", "x", domain=MS),
    )


def bias_gelu(*shape: int) -> Ways:
    """Gelu(x + b)"""
    b = normal(shape[-1], seed=1)
    return ways_of(
        {"x": normal(*shape)},
        Add__Gelu_without_BiasGeluFusion=lambda s: s("Gelu", s("Add", "x", s.constant(b))),
        BiasGelu=lambda s: s("BiasGelu", "x", s.constant(b), domain=MS),
    )


def tanh_gelu(*shape: int) -> Ways:
    """x * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2"""

    def written(s: Sketch) -> str:
        cubed = s("Mul", s("Mul", s("Mul", "x", "x"), "x"), s.constant(0.044715))
        inner = s("Tanh", s("Mul", s("Add", "x", cubed), s.constant((2 / np.pi) ** 0.5)))
        return s("Mul", s("Mul", "x", s.constant(0.5)), s("Add", inner, s.constant(1.0)))

    return ways_of(
        {"x": normal(*shape)},
        written_out_without_FastGeluFusion=written,
        Gelu=lambda s: s("Gelu", "x", approximate="tanh"),
        FastGelu=lambda s: s("FastGelu", "x", domain=MS),
    )


def silu(*shape: int) -> Ways:
    """x * sigmoid(x)"""
    return ways_of(
        {"x": normal(*shape)},
        Sigmoid__Mul_without_QuickGeluFusion=lambda s: s("Mul", "x", s("Sigmoid", "x")),
        QuickGelu=lambda s: s("QuickGelu", "x", domain=MS, alpha=1.0),
        Swish=lambda s: s("Swish", "x"),
    )


def hard_swish(*shape: int) -> Ways:
    """x * min(max(x + 3, 0), 6) / 6"""
    return ways_of(
        {"x": normal(*shape)},
        HardSigmoid__Mul=lambda s: s("Mul", "x", s("HardSigmoid", "x", alpha=1 / 6, beta=0.5)),
        HardSwish=lambda s: s("HardSwish", "x"),
        Clip=lambda s: s(
            "Mul",
            s("Mul", "x", s.constant(1 / 6)),
            s("Clip", s("Add", "x", s.constant(3.0)), s.constant(0.0), s.constant(6.0)),
        ),
    )


def mish(*shape: int) -> Ways:
    """x * tanh(softplus(x))"""
    return ways_of(
        {"x": normal(*shape)},
        Softplus__Tanh__Mul=lambda s: s("Mul", "x", s("Tanh", s("Softplus", "x"))),
        Mish=lambda s: s("Mish", "x"),
    )


def layer_norm(*shape: int) -> Ways:
    """One alone."""
    g, b = normal(shape[-1], seed=1), normal(shape[-1], seed=2)

    def written(s: Sketch) -> str:
        centred = s("Sub", "x", s("ReduceMean", "x", s.constant([-1], np.int64)))
        variance = s("ReduceMean", s("Mul", centred, centred), s.constant([-1], np.int64))
        root = s("Sqrt", s("Add", variance, s.constant(1e-5)))
        return s("Add", s("Mul", s("Div", centred, root), s.constant(g)), s.constant(b))

    return ways_of(
        {"x": normal(*shape)},
        written_out_without_LayerNormFusionL1__LayerNormFusionL2=written,
        LayerNormalization=lambda s: s("LayerNormalization", "x", s.constant(g), s.constant(b)),
    )


def skip_layer_norm(*shape: int, bias: bool = False) -> Ways:
    """The norm of a sum, and the sum."""
    g, b, c = normal(shape[-1], seed=1), normal(shape[-1], seed=2), normal(shape[-1], seed=3)

    def apart(s: Sketch) -> tuple[str, str]:
        total = s("Add", s("Add", "x", s.constant(c)) if bias else "x", "y")
        return s("LayerNormalization", total, s.constant(g), s.constant(b)), total

    def fused(s: Sketch) -> tuple[str, str]:
        extra = [s.constant(c)] if bias else []
        first = s(
            "SkipLayerNormalization", "x", "y", s.constant(g), s.constant(b), *extra, domain=MS, results=4, epsilon=1e-5
        )
        return first, s.second(3)

    return ways_of(
        {"x": normal(*shape), "y": normal(*shape, seed=4)},
        Add__LayerNormalization_without_SkipLayerNormFusion__BiasSkipLayerNormFusion=apart,
        SkipLayerNormalization=fused,
        alone__Add__LayerNormalization_without_SkipLayerNormFusion__BiasSkipLayerNormFusion=lambda s: apart(s)[0],
        alone__SkipLayerNormalization=lambda s: fused(s)[0],
    )


def rms_norm(*shape: int) -> Ways:
    """One alone."""
    g = normal(shape[-1], seed=1)

    def written(s: Sketch) -> str:
        mean = s("ReduceMean", s("Mul", "x", "x"), s.constant([-1], np.int64))
        return s("Mul", s("Div", "x", s("Sqrt", s("Add", mean, s.constant(1e-5)))), s.constant(g))

    return ways_of(
        {"x": normal(*shape)},
        written_out_without_SimplifiedLayerNormFusion__LayerNormFusionL2=written,
        RMSNormalization=lambda s: s("RMSNormalization", "x", s.constant(g)),
        SimplifiedLayerNormalization=lambda s: s("SimplifiedLayerNormalization", "x", s.constant(g), epsilon=1e-5),
    )


def skip_rms_norm(*shape: int) -> Ways:
    """The norm of a sum, and the sum."""
    g = normal(shape[-1], seed=1)

    def apart(s: Sketch, norm: str) -> tuple[str, str]:
        total = s("Add", "x", "y")
        return s(norm, total, s.constant(g), epsilon=1e-5), total

    def fused(s: Sketch) -> tuple[str, str]:
        first = s("SkipSimplifiedLayerNormalization", "x", "y", s.constant(g), domain=MS, results=4, epsilon=1e-5)
        return first, s.second(3)

    return ways_of(
        {"x": normal(*shape), "y": normal(*shape, seed=4)},
        Add__RMSNormalization=lambda s: apart(s, "RMSNormalization"),
        Add__SimplifiedLayerNormalization_without_SkipLayerNormFusion=lambda s: apart(s, "SimplifiedLayerNormalization"),
        SkipSimplifiedLayerNormalization=fused,
    )


def group_norm(groups: int, *shape: int) -> Ways:
    """Statistics over groups of channels, scale and bias per channel."""
    g, b = normal(shape[1], seed=1), normal(shape[1], seed=2)

    def instance(s: Sketch) -> str:
        split = s("Reshape", "x", s.constant([0, groups, -1], np.int64))
        one, none = s.constant(np.ones(groups)), s.constant(np.zeros(groups))
        return s("Reshape", s("InstanceNormalization", split, one, none), s.constant(shape, np.int64))

    def affine(s: Sketch, x: str) -> str:
        each = (1, shape[1], *(1 for _ in shape[2:]))
        return s("Add", s("Mul", x, s.constant(g.reshape(each))), s.constant(b.reshape(each)))

    def as_batch(s: Sketch, x: str) -> str:
        zeros, ones = s.constant(np.zeros(shape[1])), s.constant(np.ones(shape[1]))
        return s("BatchNormalization", x, s.constant(g), s.constant(b), zeros, ones, epsilon=0.0)

    def layer(s: Sketch) -> str:
        split = s("Reshape", "x", s.constant([0, groups, -1], np.int64))
        ones = s.constant(np.ones(int(np.prod(shape)) // shape[0] // groups))
        return s("Reshape", s("LayerNormalization", split, ones), s.constant(shape, np.int64))

    return ways_of(
        {"x": normal(*shape)},
        GroupNormalization=lambda s: s("GroupNormalization", "x", s.constant(g), s.constant(b), num_groups=groups),
        InstanceNormalization__Mul__Add=lambda s: affine(s, instance(s)),
        InstanceNormalization__BatchNormalization=lambda s: as_batch(s, instance(s)),
        LayerNormalization__Mul__Add=lambda s: affine(s, layer(s)),
    )


def rotary(batch: int, heads: int, queries: int, size: int) -> Ways:
    """Rotated in 4D [B,H,S,D], halves apart, and the same in 3D [B,S,H*D]."""
    angles = normal(queries, size // 2, seed=3)
    cos, sin = np.cos(angles), np.sin(angles)
    positions = np.broadcast_to(np.arange(queries), (batch, queries))

    def written(s: Sketch) -> str:
        x = split_heads(s, "x", heads)
        left, right = s("Split", x, axis=3, num_outputs=2, results=2), s.second(1)
        turned = s("Concat", s("Neg", right), left, axis=3)
        wide = [s.constant(np.tile(part, 2)[None, None]) for part in (cos, sin)]
        return s("Add", s("Mul", x, wide[0]), s("Mul", turned, wide[1]))

    def contrib(s: Sketch, x: str, **more: int) -> str:
        return s("RotaryEmbedding", x, s.constant(positions, np.int64), s.constant(cos), s.constant(sin), domain=MS, **more)

    def caches(s: Sketch) -> list[str]:
        return [s.constant(np.broadcast_to(part, (batch, *part.shape))) for part in (cos, sin)]

    def flat(s: Sketch, x: str) -> str:
        return split_heads(s, x, heads)

    return ways_of(
        {"x": normal(batch, queries, heads * size)},
        written_out_in_4D=written,
        RotaryEmbedding_in_4D=lambda s: s("RotaryEmbedding", split_heads(s, "x", heads), *caches(s)),
        RotaryEmbedding_in_3D__Transpose=lambda s: flat(s, s("RotaryEmbedding", "x", *caches(s), num_heads=heads)),
        com_microsoft_in_4D=lambda s: contrib(s, split_heads(s, "x", heads)),
        com_microsoft_in_3D__Transpose=lambda s: flat(s, contrib(s, "x", num_heads=heads, rotary_embedding_dim=0)),
    )


def matmul_add(rows: int, inner: int, columns: int) -> Ways:
    """x W + b for x of rank 3."""
    w, b = normal(inner, columns, seed=1), normal(columns, seed=2)

    def gemm(s: Sketch) -> str:
        flat = s("Reshape", "x", s.constant([-1, inner], np.int64))
        return s("Reshape", s("Gemm", flat, s.constant(w), s.constant(b)), s.constant([1, rows, columns], np.int64))

    return ways_of(
        {"x": normal(1, rows, inner)},
        MatMul__Add_without_MatMulAddFusion=lambda s: s("Add", s("MatMul", "x", s.constant(w)), s.constant(b)),
        Reshape__Gemm__Reshape=gemm,
        MatMul=lambda s: s("MatMul", "x", s.constant(w)),
    )


def parallel_matmuls(rows: int, inner: int, *columns: int) -> Ways:
    """Several matmuls of one operand, and one with a Split behind it."""
    ws = [normal(inner, c, seed=i) for i, c in enumerate(columns)]

    def apart(s: Sketch) -> tuple[str, ...]:
        return tuple(s("MatMul", "x", s.constant(w)) for w in ws)

    def merged(s: Sketch) -> tuple[str, ...]:
        whole = s("MatMul", "x", s.constant(np.concatenate(ws, axis=1)))
        s("Split", whole, s.constant(columns, np.int64), axis=-1, results=len(columns))
        return tuple(s.nodes[-1].output)

    return ways_of({"x": normal(1, rows, inner)}, apart=apart, merged__Split=merged)


FORMS: dict[str, Callable[[], Ways]] = {
    "attention-bert": lambda: attention(1, 128, 128, 12, 12, 64),
    "attention-bert-additive": lambda: attention(1, 128, 128, 12, 12, 64, "additive"),
    "attention-bert-bool": lambda: attention(1, 128, 128, 12, 12, 64, "bool"),
    "attention-gpt2": lambda: attention(1, 128, 128, 12, 12, 64, "causal"),
    "attention-llama": lambda: attention(1, 128, 128, 12, 4, 64, "causal"),
    "attention-vit": lambda: attention(1, 197, 197, 6, 6, 64),
    "attention-segformer-1": lambda: attention(1, 4096, 64, 1, 1, 32),
    "attention-segformer-3": lambda: attention(1, 256, 64, 5, 5, 32),
    "attention-decode": lambda: attention(1, 1, 1, 12, 12, 64, "", 511),
    "attention-decode-grouped": lambda: attention(1, 1, 1, 12, 4, 64, "", 511),
    "attention-long": lambda: attention(1, 1024, 1024, 12, 12, 64),
    "gelu-bert": lambda: gelu(1, 128, 3072),
    "gelu-small": lambda: gelu(1, 64, 128),
    "bias-gelu-bert": lambda: bias_gelu(1, 128, 3072),
    "tanh-gelu-gpt2": lambda: tanh_gelu(1, 128, 3072),
    "silu-llama": lambda: silu(1, 128, 2048),
    "silu-efficientnet": lambda: silu(1, 96, 112, 112),
    "silu-small": lambda: silu(1, 64, 14, 14),
    "hard-swish": lambda: hard_swish(1, 96, 56, 56),
    "mish": lambda: mish(1, 96, 56, 56),
    "layer-norm-bert": lambda: layer_norm(1, 128, 768),
    "layer-norm-convnext": lambda: layer_norm(1, 56, 56, 96),
    "skip-layer-norm-bert": lambda: skip_layer_norm(1, 128, 768),
    "skip-layer-norm-bias": lambda: skip_layer_norm(1, 128, 768, bias=True),
    "skip-layer-norm-segformer": lambda: skip_layer_norm(1, 4096, 32),
    "rms-norm-llama": lambda: rms_norm(1, 128, 768),
    "skip-rms-norm-llama": lambda: skip_rms_norm(1, 128, 768),
    "group-norm-unet": lambda: group_norm(32, 1, 320, 32, 32),
    "group-norm-large": lambda: group_norm(8, 2, 64, 64, 64),
    "rotary-llama": lambda: rotary(1, 12, 128, 64),
    "rotary-decode": lambda: rotary(1, 12, 1, 64),
    "matmul-add-bert": lambda: matmul_add(128, 768, 768),
    "matmul-add-wide": lambda: matmul_add(128, 768, 3072),
    "matmul-add-one": lambda: matmul_add(1, 768, 768),
    "qkv-bert": lambda: parallel_matmuls(128, 768, 768, 768, 768),
    "qkv-llama": lambda: parallel_matmuls(128, 768, 768, 256, 256),
    "gate-up-llama": lambda: parallel_matmuls(128, 768, 2048, 2048),
    "qkv-decode": lambda: parallel_matmuls(1, 768, 768, 768, 768),
}
