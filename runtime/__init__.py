"""Running programs: the artifact, `Program`, the engines' executors, measuring. It knows nothing of the compiler.

Importing it brings in the standard library only: NumPy comes with the first name used, an engine with the first
program.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .artifact import Artifact, is_artifact, open_artifact, write_artifact, write_artifact_folder
    from .errors import ArtifactError, EngineFailure, FeedError, RunError
    from .inputs import random_inputs, read_inputs
    from .manifest import (
        FileRecord,
        Kind,
        Manifest,
        NodeCount,
        OptionValue,
        PassRecord,
        Placement,
        SignatureEntry,
        Source,
    )
    from .measuring import Contestant, Measurement, Workload, measure, measure_reference
    from .onnxruntime_executor import OnnxRuntimeOptions
    from .profiling import Call, Kernel, Profile
    from .program import Program, load
    from .provenance import Provenance
    from .signature import FeedChecker, Feeds
    from .spilling import spill
    from .verdict import FEWEST_ROUNDS, Comparison, Verdict, compare
    from .weights import WEIGHTS_FILE, WeightsLayout, WeightView, layout_weights, read_weights

__all__ = [
    # running
    "Program",
    "load",
    "Feeds",
    "FeedChecker",
    # the artifact
    "Artifact",
    "is_artifact",
    "open_artifact",
    "write_artifact",
    "write_artifact_folder",
    "Manifest",
    "SignatureEntry",
    "Kind",
    "Source",
    "PassRecord",
    "Placement",
    "NodeCount",
    "FileRecord",
    "OptionValue",
    # weights
    "WeightView",
    "WeightsLayout",
    "layout_weights",
    "read_weights",
    "WEIGHTS_FILE",
    "spill",
    # engines
    "OnnxRuntimeOptions",
    # measuring
    "Contestant",
    "Workload",
    "Measurement",
    "random_inputs",
    "read_inputs",
    "measure",
    "measure_reference",
    "FEWEST_ROUNDS",
    "Comparison",
    "Verdict",
    "compare",
    "Profile",
    "Kernel",
    "Call",
    "Provenance",
    # errors
    "RunError",
    "ArtifactError",
    "FeedError",
    "EngineFailure",
]

_HOMES = {
    "artifact": ("Artifact", "is_artifact", "open_artifact", "write_artifact", "write_artifact_folder"),
    "errors": ("ArtifactError", "EngineFailure", "FeedError", "RunError"),
    "inputs": ("random_inputs", "read_inputs"),
    "manifest": (
        *("FileRecord", "Kind", "Manifest", "NodeCount", "OptionValue"),
        *("PassRecord", "Placement", "SignatureEntry", "Source"),
    ),
    "measuring": ("Contestant", "Measurement", "Workload", "measure", "measure_reference"),
    "onnxruntime_executor": ("OnnxRuntimeOptions",),
    "profiling": ("Call", "Kernel", "Profile"),
    "program": ("Program", "load"),
    "provenance": ("Provenance",),
    "signature": ("FeedChecker", "Feeds"),
    "verdict": ("FEWEST_ROUNDS", "Comparison", "Verdict", "compare"),
    "spilling": ("spill",),
    "weights": ("WEIGHTS_FILE", "WeightView", "WeightsLayout", "layout_weights", "read_weights"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
