"""Architectures of the PyTorch world with seeded random weights, small enough to run: what `benchmarks.torch_models` captures.

`TABLE` gives each by name with its family; nothing is downloaded. Importing this imports torch, and building most of them
imports transformers.
"""

from __future__ import annotations

from . import (  # noqa: F401  each puts its entries into the table
    classification,
    decoders,
    dense,
    diffusion,
    encoder_decoders,
    graphs,
    multimodal,
    plain,
    recommenders,
    sequences,
    speech,
    text_encoders,
)
from .table import FAMILIES, TABLE, Architecture, Call, Entry, build
from .trial import Trial, attempt

__all__ = ["FAMILIES", "TABLE", "Architecture", "Call", "Entry", "Trial", "attempt", "build"]
