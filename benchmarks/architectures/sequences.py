"""State spaces, recurrent networks, and models of time series and of trajectories."""

# pyright: basic
# ruff: noqa: D103  an entry's name says what it is
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .table import Architecture, Call, entry, noise, of_transformers, tokens

SMALL = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "use_cache": False}


def state_space(name: str, model: str, config: str, **settings: Any) -> None:
    """A model of transformers that carries a state from token to token."""

    @entry("state space", name)
    def make() -> Architecture:
        module = of_transformers(model, config, **SMALL, **settings).eval()
        with torch.no_grad():
            module(tokens(1, 1))  # RWKV scales its weights in its first call
        return Architecture(
            module,
            lambda batch, length: Call(kwargs={"input_ids": tokens(batch, length), "use_cache": False}),
            {"input_ids": {0: "batch", 1: "length"}},
        )


state_space("mamba", "MambaForCausalLM", "MambaConfig", state_size=8)
state_space("mamba2", "Mamba2ForCausalLM", "Mamba2Config", state_size=8, num_heads=4, head_dim=16, n_groups=2, chunk_size=8)
state_space("falcon_mamba", "FalconMambaForCausalLM", "FalconMambaConfig", state_size=8)
state_space("rwkv", "RwkvForCausalLM", "RwkvConfig", attention_hidden_size=32)


class Recurrent(nn.Module):
    """A recurrent layer with a head; the last state is returned as well."""

    def __init__(self, kind: type[nn.Module], **settings: Any) -> None:
        super().__init__()
        self.cell = kind(16, 24, batch_first=True, **settings)
        self.head = nn.Linear(24 * (2 if settings.get("bidirectional") else 1), 5)

    def forward(self, x: Tensor) -> Any:
        y, state = self.cell(x)
        return self.head(y), state


def recurrent(name: str, kind: type[nn.Module], **settings: Any) -> None:
    """A recurrent network, dynamic in batch and length."""

    @entry("recurrent", name)
    def make() -> Architecture:
        return Architecture(
            Recurrent(kind, **settings),
            lambda batch, length: Call((noise(batch, length, 16),)),
            {"x": {0: "batch", 1: "length"}},
        )


recurrent("lstm", nn.LSTM)
recurrent("lstm_bidirectional", nn.LSTM, num_layers=2, bidirectional=True)
recurrent("gru", nn.GRU)
recurrent("gru_bidirectional", nn.GRU, num_layers=2, bidirectional=True)
recurrent("rnn", nn.RNN)


class Unrolled(nn.Module):
    """An LSTM cell in a Python loop over five steps."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(16, 24)

    def forward(self, x: Tensor) -> Tensor:
        hidden = cell = x.new_zeros(x.shape[0], 24)
        for step in range(x.shape[1]):
            hidden, cell = self.cell(x[:, step], (hidden, cell))
        return hidden


@entry("recurrent")
def lstm_unrolled() -> Architecture:
    return Architecture(Unrolled(), lambda batch, length: Call((noise(batch, 5, 16),)), {"x": {0: "batch"}})


# Time series and trajectories


PATCHES = {"num_input_channels": 3, "context_length": 32, "patch_length": 8, "patch_stride": 8, "prediction_length": 8}


def patched(name: str, model: str, config: str, **settings: Any) -> None:
    """A model of transformers that reads patches of a time series of three channels."""

    @entry("time series", name)
    def make() -> Architecture:
        return Architecture(
            of_transformers(model, config, **PATCHES, **settings),
            lambda batch, length: Call(kwargs={"past_values": noise(batch, 32, 3)}),
            {"past_values": {0: "batch"}},
        )


patched(
    "patchtst",
    "PatchTSTForPrediction",
    "PatchTSTConfig",
    d_model=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    ffn_dim=64,
)
patched("patchtsmixer", "PatchTSMixerForPrediction", "PatchTSMixerConfig", d_model=16, num_layers=2)


@entry("trajectories")
def decision_transformer() -> Architecture:
    def inputs(batch: int, length: int) -> Call:
        return Call(
            kwargs={
                "states": noise(batch, length, 6),
                "actions": noise(batch, length, 3, seed=2),
                "rewards": noise(batch, length, 1, seed=3),
                "returns_to_go": noise(batch, length, 1, seed=4),
                "timesteps": torch.arange(length).expand(batch, length).contiguous(),
                "attention_mask": torch.ones(batch, length, dtype=torch.int64),
            }
        )

    names = ("states", "actions", "rewards", "returns_to_go", "timesteps", "attention_mask")
    sizes = {"hidden_size": 32, "n_layer": 2, "n_head": 2, "state_dim": 6, "act_dim": 3, "max_ep_len": 64, "n_positions": 64}
    return Architecture(
        of_transformers("DecisionTransformerModel", "DecisionTransformerConfig", **sizes),
        inputs,
        {name: {0: "batch", 1: "length"} for name in names},
    )
