"""Lowering to ONNX Runtime: the graph as an ONNX model of the newest opset for which every op has a kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from irc.ir import DType, Graph, Op, Tensor, UnsupportedError, Use, clone_graph, emit, schema, with_one_sign
from irc.passes import Context, Rule, unfused
from irc.runtime import WEIGHTS_FILE, OnnxRuntimeOptions, OptionValue, WeightView, layout_weights, spill, tensorrt_library

from ..engine import YES, EngineFiles, Verdict, Wish, weight_view
from ..targets import Kind, Target
from .forms import CPU_ONLY, RULES, WITHOUT_VNNI, legalize
from .kernels import why_not
from .package import GPU, install_gpu, package

# Below this, ops mean other things under the same form (GroupNormalization), so older models are not written.
OLDEST_EMITTED = 21

# The newest opset whose AveragePool has no dilations.
FAST_POOLS = 18

# ONNX Runtime refuses initializers of these dtypes from outside the model.
KEPT_INLINE = frozenset({DType.STR, DType.C64, DType.C128, DType.F8E8M0, DType.F4E2M1, DType.I2, DType.U2})

# Fusions of ONNX Runtime that make models slower: see normalization.py, matmul.py and activation.py in forms.
SLOWER = ("SkipLayerNormFusion", "BiasSkipLayerNormFusion", "MatMulAddFusion", "BiasGeluFusion")

PROVIDERS = {
    Kind.CPU: ("CPUExecutionProvider",),
    Kind.CUDA: ("CUDAExecutionProvider", "CPUExecutionProvider"),
}
"""ONNX Runtime's word for its sets of kernels, best first."""

ON_CUDA = {
    "CUDAExecutionProvider.arena_extend_strategy": "kSameAsRequested",
    "CUDAExecutionProvider.cudnn_conv_algo_search": "EXHAUSTIVE",
    "CUDAExecutionProvider.do_copy_in_default_stream": "1",
    "CUDAExecutionProvider.use_tf32": "0",
}
"""f32 stays f32; cuDNN's better heuristic chooses convolutions; memory grows by what is asked for, not to the next power of
two; copies wait for the kernels before them, without which some models race (microsoft/onnxruntime#4829)."""

VARIANTS_ON_CUDA = {
    "NHWC": {"CUDAExecutionProvider.prefer_nhwc": "1"},
    "CUDA graph": {"CUDAExecutionProvider.enable_cuda_graph": "1"},
    "NHWC, CUDA graph": {"CUDAExecutionProvider.prefer_nhwc": "1", "CUDAExecutionProvider.enable_cuda_graph": "1"},
}
"""What pays for some models only: convolutions in the layout of tensor cores, and launching all kernels at once."""

TENSORRT_PROVIDER = "TensorrtExecutionProvider"

ON_TENSORRT = {
    "TensorrtExecutionProvider.trt_bf16_enable": "0",
    "TensorrtExecutionProvider.trt_engine_cache_enable": "0",
    "TensorrtExecutionProvider.trt_fp16_enable": "0",
    "TensorrtExecutionProvider.trt_int8_enable": "0",
    "TensorrtExecutionProvider.trt_timing_cache_enable": "0",
}
"""The precision is the graph's, and nothing is written to a disk: an engine is built whenever a session is made."""


@dataclass(frozen=True)
class OnnxRuntime:
    """ONNX Runtime with its CPU kernels, and on NVIDIA GPUs with those of its CUDA provider before them."""

    name: str = "onnxruntime"

    @property
    def version(self) -> str:
        """The installed version, or an empty string."""
        return package().version

    def serves(self, target: Target) -> Verdict:
        """All targets: what it is given is the same for each, and the kernels are those of the machine it runs on."""
        return YES if self.version else Verdict("it is not installed (pip install onnxruntime)")

    def runs(self, target: Target) -> Verdict:
        """On a GPU, where the package with kernels for it is installed."""
        if target.not_here:
            return Verdict(target.not_here)
        if target.kind is Kind.CUDA and package().name != GPU:
            return Verdict(f"its kernels for NVIDIA GPUs are missing ({install_gpu()})")
        return YES

    def wishes(self, target: Target) -> frozenset[Wish]:
        """On a CPU its QLinearConv makes integers, and a convolution from integers to f32 is run in f32."""
        return frozenset({Wish.ROUNDED_RESULTS} if target.kind is Kind.CPU else ())

    def takes(self, op: Op, target: Target) -> Verdict:
        """Whether a CPU kernel takes `op` at some opset that says the same."""
        reason = why_not(op, schema.CANONICAL_OPSET)
        if not reason or _older_opset([op]) is not None:
            return YES
        return Verdict(reason)

    def settings(self, opt_level: int, target: Target) -> Sequence[Mapping[str, OptionValue]]:
        """None of its optimizations where answers must not change by a bit; else all, and less and less of them.

        Convolutions in blocked layout add up in another order, which shows where a Sigmoid behind them is nearly 0. On a GPU,
        the CPU's kernels take what the GPU has none for.
        """
        if opt_level < 2:
            plain = _on_cuda(optimization="disable") if target.kind is Kind.CUDA else OnnxRuntimeOptions(optimization="disable")
            return (plain.to_manifest(),)
        if target.kind is Kind.CUDA:  # what is left out below was measured on CPUs
            levels = ("all", "extended", "basic", "disable")
            return tuple(_on_cuda(optimization=level).to_manifest() for level in levels)
        without = (*OnnxRuntimeOptions().disabled_optimizers, *SLOWER)
        chosen = (
            OnnxRuntimeOptions(optimization="all", disabled_optimizers=without),
            OnnxRuntimeOptions(optimization="all", disabled_optimizers=(*without, "NchwcTransformer")),
            *(OnnxRuntimeOptions(optimization=level) for level in ("extended", "basic", "disable")),
        )
        return tuple(each.to_manifest() for each in chosen)

    def defaults(self, target: Target) -> Sequence[Mapping[str, OptionValue]]:
        """All of its own optimizations."""
        return ((_on_cuda() if target.kind is Kind.CUDA else OnnxRuntimeOptions()).to_manifest(),)

    def variants(self, target: Target) -> Mapping[str, Mapping[str, OptionValue]]:
        """On a GPU another layout, CUDA graphs, and TensorRT where it is installed."""
        if target.kind is not Kind.CUDA:
            return {}
        found = {name: _on_cuda(options).to_manifest() for name, options in VARIANTS_ON_CUDA.items()}
        if tensorrt_library():
            providers = (TENSORRT_PROVIDER, *PROVIDERS[Kind.CUDA])
            found["TensorRT"] = replace(_on_cuda(ON_TENSORRT), providers=providers).to_manifest()
        return found

    @property
    def forms(self) -> Sequence[Rule]:
        """What `lower` rewrites ops by."""
        return RULES

    def lower(self, graph: Graph, target: Target, opt_level: int, context: Context | None = None) -> EngineFiles:
        """The ONNX model of a graph. Raises UnsupportedError when no opset serves all its ops.

        From O2 on, ops are said in the form that the engine runs fastest, as far as `context` lets them; the graph given
        stays as it is.
        """
        given = graph
        graph = unfused(graph)  # it takes no regions
        if opt_level >= 2:
            assumed, graph = graph.assumed_dims, clone_graph(graph)
            legalize(graph, _for_target(context, target))
            assumed |= graph.assumed_dims
        if target.saturates_bytes:
            graph = with_one_sign(graph)
        emitted = emit(graph, opset=choose_opset(graph), keep_inline=KEPT_INLINE)
        emitted.declare_operands("Attention")  # of operands whose last dim it does not find, it makes results of a wrong size
        weights = {name: weight_view(tensor) for name, tensor in emitted.weights.items()}
        ranges = layout_weights(weights).ranges
        model = emitted.refer(lambda name: (WEIGHTS_FILE, *ranges[name]))
        files = {"model.onnx": (model.SerializeToString(deterministic=True),)}
        shared = shareable(graph, emitted.weights) if target.kind is Kind.CPU else ()  # a GPU has its own copy
        if opt_level >= 2:
            weights = spill(weights, waiting(weights, replaced(graph, emitted.weights), shared))
            _move(given, graph, emitted.weights, weights)
        return EngineFiles(files, weights, emitted.op_names, {"shared_weights": shared})


def _on_cuda(options: Mapping[str, str] | None = None, optimization: str = "all") -> OnnxRuntimeOptions:
    return OnnxRuntimeOptions(
        optimization=optimization, providers=PROVIDERS[Kind.CUDA], provider_options={**ON_CUDA, **(options or {})}
    )


def _for_target(context: Context | None, target: Target) -> Context:
    """The context without forms that are for others; what it counts it counts with the one given."""
    context = Context() if context is None else context
    others = (*(CPU_ONLY if target.kind is Kind.CUDA else ()), *(() if target.saturates_bytes else WITHOUT_VNNI))
    return replace(context, disabled=context.disabled | {rule.name for rule in others})


UNTOUCHED = {
    "MatMul": 1,
    "Gemm": 1,
    "Gather": 0,
    "com.microsoft::FusedMatMul": 1,
    "com.microsoft::FusedGemm": 1,
    "com.microsoft::MatMulNBits": 1,
}
"""The operand of an op that none of ONNX Runtime's optimizers replaces: kernels pack it, or read it where it lies."""

SMALLEST_SHARED = 1 << 16
"""Bytes of a weight that is worth not copying."""


def shareable(graph: Graph, weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The weights that a session may use where they lie: large, and nothing but UNTOUCHED operands."""
    if any(op.is_a("BatchNormalization") for op in graph.walk()):
        return ()  # one behind a product is multiplied into its weight
    untouched: dict[int, bool] = {}
    for op in graph.walk():
        if op.is_constant:
            tensor = op.value
            untouched[id(tensor)] = untouched.get(id(tensor), True) and all(map(_leaves_alone, op.result.uses))
    large = {name: tensor for name, tensor in weights.items() if tensor.byte_count >= SMALLEST_SHARED}
    return tuple(sorted(name for name, tensor in large.items() if untouched.get(id(tensor), False)))


SMALLEST_SPILLED = 1 << 24
"""Bytes of weights together that are worth a file."""


def replaced(graph: Graph, weights: Mapping[str, Tensor]) -> frozenset[str]:
    """The large filters that ONNX Runtime replaces by their blocked form; it reads none of them afterwards.

    It leaves the default of an input as it is.
    """
    other = {id(tensor) for tensor in graph.defaults.values()}
    other |= {id(op.value) for op in graph.walk() if op.is_constant and not all(map(_is_filter, op.result.uses))}
    large = {
        name: tensor for name, tensor in weights.items() if tensor.byte_count >= SMALLEST_SHARED and id(tensor) not in other
    }
    return frozenset(name for name, tensor in large.items() if tensor.dtype is DType.F32 and len(tensor.shape) == 4)


def waiting(weights: Mapping[str, WeightView], filters: frozenset[str], shared: Sequence[str]) -> frozenset[str]:
    """The weights that wait on a disk: of what kernels have their own form, filters and what folding has made.

    Nobody needs them in memory beside that form but `Program.save`. What is a module's or a file's stays where it is: there
    is no second copy of it.
    """
    names = filters | {name for name in shared if _is_own(weights[name])}
    return names if sum(weights[name].byte_count for name in names) >= SMALLEST_SPILLED else frozenset()


def _is_own(weight: WeightView) -> bool:
    """Whether the bytes are NumPy's, and not a module's or a mapped file's."""
    owner: Any = weight.data
    while isinstance(owner, memoryview) or (isinstance(owner, np.ndarray) and not owner.flags.owndata):
        owner = owner.obj if isinstance(owner, memoryview) else owner.base  # type: ignore[unknown]  # NumPy says no more
    return isinstance(owner, np.ndarray)


def _is_filter(use: Use) -> bool:
    return isinstance(use.user, Op) and use.user.name in ("Conv", "FusedConv") and use.index == 1


def _move(given: Graph, lowered: Graph, tensors: Mapping[str, Tensor], weights: Mapping[str, WeightView]) -> None:
    """Let go of the memory of weights that lie in a file now: the constants of both graphs become views of it."""
    moved = {
        id(tensors[name]): Tensor(tensors[name].dtype, tensors[name].shape, weight.data)
        for name, weight in weights.items()
        if weight.folder is not None
    }
    for op in (*given.walk(), *lowered.walk()) if moved else ():
        if op.is_constant and id(op.value) in moved:
            op.attributes["value"] = moved[id(op.value)]


def _leaves_alone(use: Use) -> bool:
    return isinstance(use.user, Op) and UNTOUCHED.get(use.user.qualified_name) == use.index


def choose_opset(graph: Graph) -> int | None:
    """The opset to emit for: None for the usual one, an older one where some op has no kernel at it.

    Raises UnsupportedError listing the ops that ONNX Runtime cannot run together.
    """
    ops = [op for op in graph.walk() if not op.is_constant]
    refused = [op for op in ops if why_not(op, schema.CANONICAL_OPSET)]
    if not refused:
        return _with_faster_pools(ops)
    older = _older_opset(ops)
    if older is not None:
        return older
    shown = [f"{op.qualified_name} at {op.location}: {why_not(op, schema.CANONICAL_OPSET)}" for op in refused[:20]]
    raise UnsupportedError(
        "no engine takes these ops:\n  " + "\n  ".join(shown) + ("\n  ..." if len(refused) > 20 else "") + "\n",
        hint="replace them in the model, or register a pass that does",
    )


def _with_faster_pools(ops: list[Op]) -> int | None:
    """An opset whose AveragePool has the fast kernel, where every op says the same in it; usually None.

    From opset 19 on, AveragePool may dilate, and ONNX Runtime's kernel for that takes four times as long (0.71 against 0.18 ms
    for the six of sinet_portrait); its blocked layout knows the older one only.
    """
    if not any(op.is_a("AveragePool") for op in ops) or any(op.is_a("GroupNormalization") for op in ops):
        return None
    own = [op for op in ops if not op.domain and schema.of(op) is not None]
    older = all(op.version is None for op in ops) and all(schema.fits(op, FAST_POOLS) for op in own)
    return FAST_POOLS if older and not any(why_not(op, FAST_POOLS) for op in ops) else None


def _older_opset(ops: list[Op]) -> int | None:
    if any(op.version is not None for op in ops):
        return None
    own = [op for op in ops if not op.domain and schema.of(op) is not None]
    for opset in range(schema.CANONICAL_OPSET - 1, OLDEST_EMITTED - 1, -1):
        if all(schema.fits(op, opset) for op in own) and not any(why_not(op, opset) for op in ops):
            return opset
    return None
