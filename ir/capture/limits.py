"""How much a model may ask for before it is refused; an untrusted file must not decide how much is allocated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Budgets that capture keeps; each refusal names the budget."""

    nodes: int = 5_000_000  # after inlining functions
    nodes_inlined: int = 100_000  # of these, what functions may add to any file, and ten for each of its bytes
    depth: int = 64  # graphs inside graphs, functions inside functions
    rank: int = 32
    name_length: int = 65_536
    message_bytes: int = 2**31 - 1  # what is left of the file when the weights are taken out
    dense_bytes: int = 2**31  # a sparse constant written out densely
