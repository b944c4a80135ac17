"""To come."""

from __future__ import annotations

from ..rewriter import Rule

RULES: tuple[Rule, ...] = ()
