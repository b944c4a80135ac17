"""Makes the corpus next door: how exporters spell the patterns that the rules must recognize."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

GROUPS = (
    "normalizations",
    "normalizations_of_images",
    "activations",
    "gated_units",
    "attention",
    "attention_masks",
    "attention_heads",
    "rotary",
    "convolutions",
    "pads",
    "linear",
    "movement",
    "slices_and_resizes",
    "cells",
    "transformer_models",
)


def import_cases(parts: Sequence[str]) -> None:
    """Write the files of every case whose name holds one of `parts`, or of all."""
    from .core import write_case

    for group in GROUPS:
        for case in importlib.import_module(f"{__name__}.{group}").CASES:
            if not parts or any(part in case.name for part in parts):
                for line in write_case(case):
                    print(line, flush=True)
