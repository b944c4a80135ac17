"""Data movement: chains of reshapes and transposes, slices and what is put together of them, resizing by repeating."""

from __future__ import annotations

from ..rewriter import Rule
from . import chains, resizes, slices

RULES: tuple[Rule, ...] = (*chains.RULES, *slices.RULES, *resizes.RULES)
