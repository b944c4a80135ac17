"""How a graph becomes something that runs: targets, engines that say what they take, and the driver from model to program.

Each name brings in its module when it is first used: what is only looked up needs neither passes nor engines.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .blocks import takes_signature
    from .compiled import Compiled, CompiledVariant, Timing
    from .defaults import without_defaults
    from .driver import compile_graph, compile_model
    from .engine import Blockwise, Engine, EngineFiles, Estimated, Native, Partial, Particular, Varied, Verdict, weight_view
    from .engines import ENGINES, find_engine, settings_of
    from .managers import pass_manager, rewrite_checker
    from .options import CompileOptions
    from .partitioning import MOST_PIECES, Piece, Refusal, partition, refusals, why_not_cut
    from .precision.metrics import METRICS
    from .precision.options import Precision, Score, check_precision
    from .program_keys import program_key
    from .targets import FAMILIES, TARGETS, Kind, Target, find_target
    from .verification import (
        QUANTIZED_TOLERANCE,
        Agreement,
        Probe,
        Verify,
        check,
        distance,
        is_quantized,
        probe_of,
        random_outputs,
    )

__all__ = [
    "ENGINES",
    "FAMILIES",
    "METRICS",
    "QUANTIZED_TOLERANCE",
    "MOST_PIECES",
    "TARGETS",
    "Agreement",
    "Blockwise",
    "CompileOptions",
    "Compiled",
    "CompiledVariant",
    "Engine",
    "EngineFiles",
    "Kind",
    "Estimated",
    "Native",
    "Partial",
    "Particular",
    "Piece",
    "Precision",
    "Probe",
    "Refusal",
    "Score",
    "Target",
    "Timing",
    "Varied",
    "Verdict",
    "Verify",
    "check",
    "check_precision",
    "compile_graph",
    "compile_model",
    "distance",
    "find_engine",
    "find_target",
    "is_quantized",
    "partition",
    "pass_manager",
    "probe_of",
    "program_key",
    "random_outputs",
    "refusals",
    "rewrite_checker",
    "settings_of",
    "takes_signature",
    "weight_view",
    "why_not_cut",
    "without_defaults",
]

_HOMES = {
    "blocks": ("takes_signature",),
    "compiled": ("Compiled", "CompiledVariant", "Timing"),
    "defaults": ("without_defaults",),
    "driver": ("compile_graph", "compile_model"),
    "engine": (
        *("Blockwise", "Engine", "EngineFiles", "Estimated", "Native"),
        *("Partial", "Particular", "Varied", "Verdict", "weight_view"),
    ),
    "engines": ("ENGINES", "find_engine", "settings_of"),
    "managers": ("pass_manager", "rewrite_checker"),
    "options": ("CompileOptions",),
    "partitioning": ("MOST_PIECES", "Piece", "Refusal", "partition", "refusals", "why_not_cut"),
    "precision.metrics": ("METRICS",),
    "precision.options": ("Precision", "Score", "check_precision"),
    "program_keys": ("program_key",),
    "targets": ("FAMILIES", "TARGETS", "Kind", "Target", "find_target"),
    "verification": (
        "QUANTIZED_TOLERANCE",
        "Agreement",
        "Probe",
        "Verify",
        "check",
        "distance",
        "is_quantized",
        "probe_of",
        "random_outputs",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
