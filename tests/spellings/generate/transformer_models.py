# pyright: basic
"""Attention modules and blocks of transformers at tiny sizes, in the implementations it offers (eager and sdpa)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as t
from torch import nn

from .core import DYNAMO, SCRIPT, Case

IDS = torch.tensor([[1, 2, 3, 4, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 0]])
SMALL: dict[str, Any] = {"vocab_size": 6, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}


class Only(nn.Module):
    """A model called by keyword, its first output only, without a cache."""

    def __init__(self, model: nn.Module, names: tuple[str, ...], part: Callable[[Any], Any], **fixed: Any) -> None:
        super().__init__()
        self.model, self.names, self.part, self.fixed = model, names, part, fixed

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.part(self.model(**dict(zip(self.names, inputs, strict=True)), **self.fixed))


def first(output: Any) -> Any:
    """The first output."""
    return output[0]


def case(
    name: str, pattern: str, build: Callable[[], nn.Module], names: str, example: tuple[Any, ...], expect: str, **more: Any
) -> Case:
    """A model of transformers as a case."""
    fixed = more.pop("fixed", {})
    part = more.pop("part", first)

    def make() -> tuple[nn.Module, tuple[Any, ...]]:
        return Only(build(), tuple(names.split()), part, **fixed), example

    return Case(name, pattern, make, expect, **more)


def config(kind: Any, attention: str, **options: Any) -> Any:
    """A tiny configuration."""
    made = kind(**options)
    made._attn_implementation = attention
    return made


def bert(attention: str) -> nn.Module:
    """One layer of BERT."""
    options = SMALL | {"intermediate_size": 8, "max_position_embeddings": 8, "type_vocab_size": 2, "hidden_act": "gelu"}
    return t.BertModel(config(t.BertConfig, attention, **options), add_pooling_layer=False)


def gpt2(attention: str) -> nn.Module:
    """One layer of GPT-2."""
    options = {"vocab_size": 6, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 8}
    return t.GPT2Model(config(t.GPT2Config, attention, **options))


def llama(attention: str, kv_heads: int = 1) -> nn.Module:
    """One layer of LLaMA with shared key heads."""
    options = SMALL | {"intermediate_size": 8, "num_key_value_heads": kv_heads, "max_position_embeddings": 8, "head_dim": 4}
    return t.LlamaModel(config(t.LlamaConfig, attention, **options))


def t5() -> nn.Module:
    """One layer of T5's encoder."""
    options = {"vocab_size": 6, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    made = t.T5Config(
        **options, relative_attention_num_buckets=4, relative_attention_max_distance=8, feed_forward_proj="gated-gelu"
    )
    return t.T5EncoderModel(made)


def vit(attention: str) -> nn.Module:
    """One layer of ViT."""
    options = {k: v for k, v in SMALL.items() if k != "vocab_size"} | {
        "intermediate_size": 8,
        "image_size": 4,
        "patch_size": 2,
        "num_channels": 1,
    }
    return t.ViTModel(config(t.ViTConfig, attention, **options), add_pooling_layer=False)


def swin() -> nn.Module:
    """One shifted-window block of Swin."""
    from transformers.models.swin.modeling_swin import SwinLayer

    made = t.SwinConfig(embed_dim=8, window_size=2, mlp_ratio=1.0, num_heads=[2], depths=[1])
    return SwinLayer(made, 8, (4, 4), 2, shift_size=1)


def whisper() -> nn.Module:
    """Whisper's encoder attention."""
    from transformers.models.whisper.modeling_whisper import WhisperAttention

    made = config(t.WhisperConfig, "eager", d_model=8, encoder_attention_heads=2)
    return WhisperAttention(8, 2, config=made)


def clip(attention: str) -> nn.Module:
    """One layer of CLIP's text model."""
    options = SMALL | {"intermediate_size": 8, "max_position_embeddings": 8, "eos_token_id": 5}
    return t.CLIPTextModel(config(t.CLIPTextConfig, attention, **options))


def neox() -> nn.Module:
    """GPT-NeoX: partial rotary, parallel residual."""
    options = SMALL | {"intermediate_size": 8, "max_position_embeddings": 8, "rotary_pct": 0.5}
    return t.GPTNeoXModel(config(t.GPTNeoXConfig, "eager", **options))


def gptj() -> nn.Module:
    """GPT-J: rotary of pairs."""
    options = {"vocab_size": 6, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 8, "rotary_dim": 4, "n_inner": 8}
    return t.GPTJModel(config(t.GPTJConfig, "eager", **options))


def segformer() -> nn.Module:
    """SegFormer's attention, keys and values reduced by a strided convolution."""
    from transformers.models.segformer import modeling_segformer as m

    made = t.SegformerConfig(hidden_sizes=[8], num_attention_heads=[2], sr_ratios=[2])
    names = [n for n in ("SegformerEfficientSelfAttention", "SegformerAttention") if hasattr(m, n)]
    return getattr(m, names[0])(made, hidden_size=8, num_attention_heads=2, sequence_reduction_ratio=2)


def gemma() -> nn.Module:
    """One layer of Gemma: norm by 1 + w, GeGLU, scaled embeddings."""
    options = SMALL | {"intermediate_size": 8, "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 8}
    return t.GemmaModel(config(t.GemmaConfig, "eager", **options))


def mistral() -> nn.Module:
    """Mistral's sliding window mask."""
    options = SMALL | {
        "intermediate_size": 8,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "max_position_embeddings": 8,
        "sliding_window": 2,
    }
    return t.MistralModel(config(t.MistralConfig, "sdpa", **options))


def roberta() -> nn.Module:
    """RoBERTa's embeddings with positions from ids."""
    from transformers.models.roberta.modeling_roberta import RobertaEmbeddings

    return RobertaEmbeddings(t.RobertaConfig(**SMALL, max_position_embeddings=8, pad_token_id=1, type_vocab_size=1))


NO_CACHE = {"use_cache": False}
NO_PADDING = NO_CACHE | {"attention_mask": torch.ones(1, 5)}  # without a mask TorchScript meets aten::diff and fails
LATENT = torch.randn(1, 5, 8)
FILL = "a row of hidden keys only is the mean of v here and 0 by Attention; ids and masks are inputs, so such rows are possible"
BOTH = (DYNAMO, SCRIPT)
DYNAMIC_IDS = {"input_ids": {0: "N", 1: "M"}, "attention_mask": {0: "N", 1: "M"}}
CASES = [
    case(
        "bert-eager",
        "a layer of BERT, eager attention",
        lambda: bert("eager"),
        "input_ids attention_mask",
        (IDS, MASK),
        "LayerNormalization=3, Gelu=1",
        sources=BOTH,
        hope="Attention=1",
        corner=FILL,
    ),
    case(
        "bert-sdpa",
        "a layer of BERT, sdpa",
        lambda: bert("sdpa"),
        "input_ids attention_mask",
        (IDS, MASK),
        "LayerNormalization=3, Gelu=1",
        sources=BOTH,
        hope="Attention=1",
        corner=FILL,
    ),
    case(
        "gpt2-eager",
        "a layer of GPT-2, eager attention, no padding",
        lambda: gpt2("eager"),
        "input_ids",
        (IDS,),
        "LayerNormalization=3, Gelu=1, Attention=1",
        sources=BOTH,
        fixed=NO_PADDING,
    ),
    case(
        "gpt2-sdpa",
        "a layer of GPT-2, sdpa, no padding",
        lambda: gpt2("sdpa"),
        "input_ids",
        (IDS,),
        "LayerNormalization=3, Gelu=1, Attention=1",
        sources=BOTH,
        fixed=NO_PADDING,
    ),
    case(
        "llama-eager",
        "a layer of LLaMA, shared key heads, eager attention",
        lambda: llama("eager"),
        "input_ids",
        (IDS,),
        "RMSNormalization=3, Swish=1, RotaryEmbedding=2, Attention=1",
        sources=BOTH,
        fixed=NO_PADDING,
    ),
    case(
        "llama-sdpa",
        "a layer of LLaMA, shared key heads, sdpa, padding mask",
        lambda: llama("sdpa"),
        "input_ids attention_mask",
        (IDS, MASK),
        "RMSNormalization=3, Swish=1, RotaryEmbedding=2",
        sources=BOTH,
        fixed=NO_CACHE,
        hope="Attention=1",
        corner=FILL,
    ),
    case(
        "gemma-eager",
        "a layer of Gemma",
        gemma,
        "input_ids",
        (IDS,),
        "RMSNormalization=3, Gelu=1, RotaryEmbedding=2, Attention=1",
        sources=(DYNAMO,),
        fixed=NO_CACHE,
    ),
    case(
        "mistral-sliding",
        "a layer of Mistral, sliding window",
        mistral,
        "input_ids",
        (IDS,),
        "RMSNormalization=3, Swish=1, RotaryEmbedding=2, Attention=1",
        sources=(DYNAMO,),
        fixed=NO_CACHE,
    ),
    case(
        "t5-encoder",
        "a layer of T5's encoder: relative bias, no scale, gated Gelu",
        t5,
        "input_ids",
        (IDS,),
        "RMSNormalization=3, Gelu=1, Attention=1",
        sources=BOTH,
    ),
    case(
        "vit-eager",
        "a layer of ViT, eager attention",
        lambda: vit("eager"),
        "pixel_values",
        (torch.randn(1, 1, 4, 4),),
        "LayerNormalization=3, Gelu=1, Attention=1, Conv=1",
        sources=BOTH,
    ),
    case(
        "vit-sdpa",
        "a layer of ViT, sdpa",
        lambda: vit("sdpa"),
        "pixel_values",
        (torch.randn(1, 1, 4, 4),),
        "LayerNormalization=3, Gelu=1, Attention=1, Conv=1",
        sources=BOTH,
    ),
    case(
        "swin-shifted",
        "a shifted-window block of Swin",
        swin,
        "hidden_states",
        (torch.randn(1, 16, 8),),
        "LayerNormalization=2, Gelu=1, Attention=1",
        sources=(DYNAMO,),
        fixed={"input_dimensions": (4, 4)},
    ),
    case("whisper-attention", "Whisper's attention, eager", whisper, "hidden_states", (LATENT,), "Attention=1", sources=BOTH),
    case(
        "clip-eager",
        "a layer of CLIP's text model, quick Gelu",
        lambda: clip("eager"),
        "input_ids",
        (IDS,),
        "LayerNormalization=3, Swish=1, Attention=1",
        sources=BOTH,
    ),
    case(
        "neox-eager",
        "a layer of GPT-NeoX: partial rotary, parallel residual",
        neox,
        "input_ids",
        (IDS,),
        "LayerNormalization=3, Gelu=1, RotaryEmbedding=2, Attention=1",
        sources=BOTH,
        fixed=NO_PADDING,
    ),
    case(
        "gptj-eager",
        "a layer of GPT-J: rotary of pairs, parallel residual",
        gptj,
        "input_ids",
        (IDS,),
        "LayerNormalization=2, Gelu=1, RotaryEmbedding=2, Attention=1",
        sources=BOTH,
        fixed=NO_PADDING,
    ),
    case(
        "segformer-attention",
        "SegFormer's attention, keys reduced by a convolution",
        segformer,
        "hidden_states",
        (torch.randn(1, 16, 8),),
        "LayerNormalization=1, Attention=1, Conv=1",
        sources=BOTH,
        fixed={"height": 4, "width": 4},
    ),
    case(
        "roberta-embeddings",
        "RoBERTa's embeddings",
        roberta,
        "input_ids",
        (IDS,),
        "LayerNormalization=1, CumSum=1",
        sources=(SCRIPT,),
        part=lambda o: o,
    ),
    case(
        "bert-dynamic",
        "a layer of BERT, sdpa, dynamic",
        lambda: bert("sdpa"),
        "input_ids attention_mask",
        (IDS.expand(2, 5).clone(), MASK.expand(2, 5).clone()),
        "LayerNormalization=3, Gelu=1",
        sources=BOTH,
        dynamic=DYNAMIC_IDS,
        inputs=["input_ids", "attention_mask"],
        hope="Attention=1",
        corner=FILL,
    ),
    case(
        "llama-dynamic",
        "a layer of LLaMA, sdpa, dynamic, no padding",
        lambda: llama("sdpa"),
        "input_ids",
        (IDS.expand(2, 5).clone(),),
        "RMSNormalization=3, Swish=1, RotaryEmbedding=2, Attention=1",
        sources=(DYNAMO,),
        dynamic={"input_ids": {0: "N", 1: "M"}},
        inputs=["input_ids"],
        fixed=NO_CACHE,
    ),
]
