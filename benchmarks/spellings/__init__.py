"""The forms that benchmarks/forms.py measures: for each, one small graph in several ways, and what to feed it."""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable

from .activations import bias_gelu, gelu, hard_swish, mish, silu, tanh_gelu
from .attention import attention, projected_attention, rotary
from .normalizations import group_norm, instance_norm, layer_norm, rms_norm, skip_layer_norm, skip_rms_norm
from .products import conv_of_tokens, matmul_add, parallel_matmuls
from .sketch import Ways

FORMS: dict[str, Callable[[], Ways]] = {
    "attention-bert": lambda: attention(1, 128, 128, 12, 12, 64),
    "attention-bert-additive": lambda: attention(1, 128, 128, 12, 12, 64, "additive"),
    "attention-bert-bool": lambda: attention(1, 128, 128, 12, 12, 64, "bool"),
    "attention-gpt2": lambda: attention(1, 128, 128, 12, 12, 64, "causal"),
    "attention-llama": lambda: attention(1, 128, 128, 12, 4, 64, "causal"),
    "attention-vit": lambda: attention(1, 197, 197, 6, 6, 64),
    "attention-segformer-1": lambda: attention(1, 4096, 64, 1, 1, 32),
    "attention-segformer-2": lambda: attention(1, 1024, 64, 2, 2, 32),
    "attention-segformer-3": lambda: attention(1, 256, 64, 5, 5, 32),
    "attention-decode": lambda: attention(1, 1, 1, 12, 12, 64, "", 511),
    "attention-decode-grouped": lambda: attention(1, 1, 1, 12, 4, 64, "", 511),
    "attention-long": lambda: attention(1, 1024, 1024, 12, 12, 64),
    "projected-attention-bert": lambda: projected_attention(128, 12, 64),
    "projected-attention-vit": lambda: projected_attention(197, 6, 64),
    "projected-attention-tiny": lambda: projected_attention(8, 2, 25),
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
    "instance-norm": lambda: instance_norm(1, 64, 64, 64),
    "rotary-llama": lambda: rotary(1, 12, 128, 64),
    "rotary-decode": lambda: rotary(1, 12, 1, 64),
    "matmul-add-bert": lambda: matmul_add(128, 768, 768),
    "matmul-add-wide": lambda: matmul_add(128, 768, 3072),
    "matmul-add-narrow": lambda: matmul_add(128, 3072, 768),
    "matmul-add-convnext": lambda: matmul_add(3136, 96, 384),
    "matmul-add-segformer": lambda: matmul_add(4096, 32, 256),
    "matmul-add-one": lambda: matmul_add(1, 768, 768),
    "conv-of-tokens-1": lambda: conv_of_tokens(64, 64, 128),
    "conv-of-tokens-3": lambda: conv_of_tokens(16, 16, 640),
    "qkv-bert": lambda: parallel_matmuls(128, 768, 768, 768, 768),
    "qkv-llama": lambda: parallel_matmuls(128, 768, 768, 256, 256),
    "gate-up-llama": lambda: parallel_matmuls(128, 768, 2048, 2048),
    "qkv-decode": lambda: parallel_matmuls(1, 768, 768, 768, 768),
}

__all__ = ["FORMS"]
