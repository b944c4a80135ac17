"""Speech and sound: waves and spectrograms in."""

# pyright: basic
# ruff: noqa: D103  an entry's name says what it is
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .encoder_decoders import BART
from .table import Architecture, Call, entry, noise, of_transformers, tokens

WAVE = {
    "vocab_size": 32,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": [16, 16, 16],
    "conv_stride": [5, 2, 2],
    "conv_kernel": [10, 3, 3],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_feat_extract_layers": 3,
}
WHISPER = {
    **{key: value for key, value in BART.items() if key != "max_position_embeddings"},
    "num_mel_bins": 16,
    "max_source_positions": 30,
    "max_target_positions": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}
LISTENER_DIMS = {"input_features": {0: "batch"}, "decoder_input_ids": {0: "batch", 1: "target"}}


@entry("speech")
def whisper() -> Architecture:
    def inputs(batch: int, length: int) -> Call:
        words = tokens(batch, length)
        return Call(kwargs={"input_features": noise(batch, 16, 60), "decoder_input_ids": words, "use_cache": False})

    return Architecture(of_transformers("WhisperForConditionalGeneration", "WhisperConfig", **WHISPER), inputs, LISTENER_DIMS)


@entry("speech")
def speech_to_text() -> Architecture:
    def inputs(batch: int, length: int) -> Call:
        words = tokens(batch, length)
        return Call(kwargs={"input_features": noise(batch, 40, 16), "decoder_input_ids": words, "use_cache": False})

    sizes = {"max_source_positions": 64, "max_target_positions": 64, "input_feat_per_channel": 16, "conv_channels": 32}
    module = of_transformers("Speech2TextForConditionalGeneration", "Speech2TextConfig", **{**BART, **sizes})
    return Architecture(module, inputs, LISTENER_DIMS)


def of_waves(name: str, model: str, config: str, **settings: Any) -> None:
    """A model of transformers for samples of sound, as many as wanted."""

    @entry("speech", name)
    def make() -> Architecture:
        return Architecture(
            of_transformers(model, config, **WAVE, **settings),
            lambda batch, length: Call(kwargs={"input_values": noise(batch, 100 * length)}),
            {"input_values": {0: "batch", 1: "samples"}},
        )


of_waves("wav2vec2", "Wav2Vec2ForCTC", "Wav2Vec2Config")
of_waves("hubert", "HubertModel", "HubertConfig")
of_waves("wavlm", "WavLMModel", "WavLMConfig")


@entry("speech")
def audio_spectrogram_transformer() -> Architecture:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    return Architecture(
        of_transformers("ASTForAudioClassification", "ASTConfig", max_length=48, num_mel_bins=32, **sizes),
        lambda batch, length: Call(kwargs={"input_values": noise(batch, 48, 32)}),
        {"input_values": {0: "batch"}},
    )


class WaveNet(nn.Module):
    """Dilated causal convolutions with gates (https://arxiv.org/abs/1609.03499)."""

    def __init__(self) -> None:
        super().__init__()
        weight_norm = nn.utils.parametrizations.weight_norm
        self.stem = nn.Conv1d(4, 16, 1)
        self.filters = nn.ModuleList(weight_norm(nn.Conv1d(16, 32, 2, dilation=2**level)) for level in range(4))
        self.residual = nn.ModuleList(nn.Conv1d(16, 16, 1) for _ in range(4))
        self.head = nn.Conv1d(16, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        skipped = torch.zeros_like(x)
        for level, (convolution, residual) in enumerate(zip(self.filters, self.residual, strict=True)):
            value, gate = convolution(F.pad(x, (2**level, 0))).chunk(2, 1)
            y = torch.tanh(value) * torch.sigmoid(gate)
            skipped = skipped + y
            x = x + residual(y)
        return self.head(F.relu(skipped))


@entry("speech")
def wavenet() -> Architecture:
    return Architecture(WaveNet(), lambda batch, length: Call((noise(batch, 4, 4 * length),)), {"x": {0: "batch", 2: "time"}})
