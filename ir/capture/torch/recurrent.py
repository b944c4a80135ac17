"""LSTM and GRU stay one op, whatever the length of the sequence: while tracing they only say what shapes they make.

torch's kernel for fake tensors runs the steps one by one in Python, which fixes the length and unrolls the layer. The
stand-ins are put where torch.export's own patches for recurrent layers go (`torch.export._patches`).
"""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch


def _lstm(input: Any, hx: Any, params: Any, biases: Any, layers: Any, dropout: Any, train: Any, both: Any, first: Any) -> Any:
    width = hx[0].shape[2] * (2 if both else 1)
    return input.new_empty((*input.shape[:-1], width)), hx[0].new_empty(hx[0].shape), hx[1].new_empty(hx[1].shape)


def _gru(input: Any, hx: Any, params: Any, biases: Any, layers: Any, dropout: Any, train: Any, both: Any, first: Any) -> Any:
    width = hx.shape[2] * (2 if both else 1)
    return input.new_empty((*input.shape[:-1], width)), hx.new_empty(hx.shape)


@contextmanager
def recurrent_kept() -> Generator[None]:
    """Run a block in which LSTM and GRU layers are traced by shape alone."""
    from torch._decomp import decomposition_table

    key = torch._C.DispatchKey.CompositeImplicitAutograd
    kernels = ((torch.ops.aten.lstm.input, _lstm), (torch.ops.aten.gru.input, _gru))
    # While tracing torch looks in the one place, while it decomposes in the other.
    tables: list[tuple[Any, Any, Any]] = [
        (place, at, kernel) for op, kernel in kernels for place, at in ((op.py_kernels, key), (decomposition_table, op))
    ]
    saved = [place.get(at) for place, at, _ in tables]
    for place, at, kernel in tables:
        place[at] = kernel
    _forget_dispatch(kernels)
    try:
        yield
    finally:
        for (place, at, _), before in zip(tables, saved, strict=True):
            if before is None:
                del place[at]
            else:
                place[at] = before
        _forget_dispatch(kernels)


def _forget_dispatch(kernels: Any) -> None:
    for op, _ in kernels:
        op._dispatch_cache.clear()


@contextmanager
def tracing() -> Generator[None]:
    """Run a block as every trace runs here: without gradients, recurrent layers whole, a size of 1 as good as any other.

    Gradients matter: with them attention with a learned mask takes another kernel, whose strides break the trace.
    """
    from torch.fx.experimental import _config

    config: Any = _config

    with torch.no_grad(), recurrent_kept(), config.patch(backed_size_oblivious=True):
        yield
