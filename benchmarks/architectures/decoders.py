"""Language models: the whole sequence at once, and a step with the keys and values of the past going in and coming out."""

# pyright: basic
# ruff: noqa: D103  an entry's name says what it is
from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.export import Dim

from .table import Architecture, Call, entry, noise, of_transformers, tokens
from .text_encoders import text

LAYERS, HEAD_SIZE, STEP = 2, 16, 2
LLAMA = {
    "vocab_size": 100,
    "hidden_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
    "use_cache": False,
}
NEOX = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
OPT = {**{key: value for key, value in NEOX.items() if key != "intermediate_size"}, "ffn_dim": 128, "word_embed_proj_dim": 64}
GPT2 = {"vocab_size": 100, "n_embd": 64, "n_layer": LAYERS, "n_head": 4, "n_positions": 64, "use_cache": False}
NEO = {
    "vocab_size": 100,
    "hidden_size": 64,
    "num_layers": LAYERS,
    "attention_types": [[["global", "local"], 1]],
    "num_heads": 4,
    "window_size": 4,
    "max_position_embeddings": 64,
    "use_cache": False,
}
FALCON = {"vocab_size": 100, "hidden_size": 64, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "use_cache": False}
BLOOM = {"vocab_size": 100, "hidden_size": 64, "n_layer": LAYERS, "n_head": 4, "use_cache": False}
MPT = {"vocab_size": 100, "d_model": 64, "n_layers": LAYERS, "n_heads": 4, "max_seq_len": 64, "use_cache": False}

DECODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT2),
    "gpt_neo": ("GPTNeoForCausalLM", "GPTNeoConfig", NEO),
    "gptj": ("GPTJForCausalLM", "GPTJConfig", {**GPT2, "rotary_dim": 8}),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", NEOX),
    "opt": ("OPTForCausalLM", "OPTConfig", OPT),
    "bloom": ("BloomForCausalLM", "BloomConfig", BLOOM),
    "mpt": ("MptForCausalLM", "MptConfig", MPT),
    "falcon": ("FalconForCausalLM", "FalconConfig", FALCON),
    "llama": ("LlamaForCausalLM", "LlamaConfig", LLAMA),
    "mistral": ("MistralForCausalLM", "MistralConfig", {**LLAMA, "sliding_window": 6}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", LLAMA),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {**LLAMA, "head_dim": HEAD_SIZE}),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", {**LLAMA, "head_dim": HEAD_SIZE}),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", {**LLAMA, "head_dim": HEAD_SIZE}),
    "phi": ("PhiForCausalLM", "PhiConfig", LLAMA),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", {**LLAMA, "pad_token_id": 0}),
    "stablelm": ("StableLmForCausalLM", "StableLmConfig", LLAMA),
    "olmo": ("OlmoForCausalLM", "OlmoConfig", LLAMA),
    "cohere": ("CohereForCausalLM", "CohereConfig", LLAMA),
    "starcoder2": ("Starcoder2ForCausalLM", "Starcoder2Config", LLAMA),
}
for _name, (_model, _config, _settings) in DECODERS.items():
    text(_name, _model, _config, family="decoder", **_settings)
text(
    "mixtral",
    "MixtralForCausalLM",
    "MixtralConfig",
    family="decoder",
    implementation="batched_mm",
    **{**LLAMA, "num_local_experts": 4},
)


class Step(nn.Module):
    """A step of decoding as engines want it: the cache goes in and comes out as pairs of keys and values, one a layer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any, attention_mask: Any, past_key_values: Any) -> dict[str, Any]:
        from transformers.cache_utils import DynamicCache

        cache = DynamicCache()
        for layer, (key, value) in enumerate(past_key_values):
            cache.update(key, value, layer)
        result = self.model(
            input_ids=input_ids, attention_mask=attention_mask, past_key_values=cache, use_cache=True, return_dict=True
        )
        present = tuple((layer.keys, layer.values) for layer in result.past_key_values.layers)
        return {"logits": result.logits, "present": present}


def past(batch: int, heads: int, length: int) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    """Keys and values of every layer."""
    shape = (batch, heads, length, HEAD_SIZE)
    return tuple((noise(*shape, seed=2 * layer), noise(*shape, seed=2 * layer + 1)) for layer in range(LAYERS))


def step(name: str, heads: int) -> None:
    """The decoder of this name with a cache of `heads` heads."""

    @entry("decoder with KV cache", f"{name}_step")
    def make() -> Architecture:
        model, config, settings = DECODERS[name]

        def inputs(batch: int, length: int) -> Call:
            mask = torch.ones(batch, length + STEP, dtype=torch.int64)
            ids = tokens(batch, STEP)
            return Call(kwargs={"input_ids": ids, "attention_mask": mask, "past_key_values": past(batch, heads, length)})

        before = Dim("past")
        pair = ({0: "batch", 2: before}, {0: "batch", 2: before})
        dynamic = {
            "input_ids": {0: "batch"},
            "attention_mask": {0: "batch", 1: before + STEP},
            "past_key_values": (pair,) * LAYERS,
        }
        return Architecture(Step(of_transformers(model, config, **{**settings, "use_cache": True})), inputs, dynamic)


for _name, _heads in {
    "gpt2": 4,
    "gpt_neox": 4,
    "opt": 4,
    "bloom": 4,
    "falcon": 1,
    "llama": 2,
    "mistral": 2,
    "qwen2": 2,
    "gemma": 2,
    "phi": 2,
}.items():
    step(_name, _heads)


class CacheStep(nn.Module):
    """A step of decoding with the cache object of transformers going in and coming out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any, past_key_values: Any) -> Any:
        result = self.model(input_ids=input_ids, past_key_values=past_key_values, use_cache=True, return_dict=True)
        return result.logits, result.past_key_values


@entry("decoder with KV cache")
def llama_cache_object() -> Architecture:
    from transformers.cache_utils import DynamicCache
    from transformers.integrations.executorch import register_dynamic_cache_export_support

    register_dynamic_cache_export_support()

    def inputs(batch: int, length: int) -> Call:
        cache = DynamicCache()
        for layer, (key, value) in enumerate(past(batch, 2, length)):
            cache.update(key, value, layer)
        return Call(kwargs={"input_ids": tokens(batch, STEP), "past_key_values": cache})

    model, config, settings = DECODERS["llama"]
    dynamic = {
        "input_ids": {0: "batch"},
        "past_key_values": [[{0: "batch", 2: "past"}] * LAYERS, [{0: "batch", 2: "past"}] * LAYERS],
    }
    return Architecture(CacheStep(of_transformers(model, config, **{**settings, "use_cache": True})), inputs, dynamic)
