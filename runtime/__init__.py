"""Running programs: the artifact, `Program`, the engines' executors, measuring. It knows nothing of the compiler.

Importing it brings in the standard library only: NumPy comes with the first name used, an engine with the first
program.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .artifact import Artifact, is_artifact, open_artifact, write_artifact, write_artifact_folder, write_passing_folder
    from .cache import Entry, cache_folder, read_entry, why_no_cache, write_entry
    from .children import run_child
    from .cuda_executor import COPY, IMAGE_FILES, LAUNCHES_FILE, NVIDIA, SOURCE_FILE, CudaExecutor, Extents, launches_to_bytes
    from .errors import ArtifactError, EngineFailure, FeedError, RunError
    from .executor import EXECUTORS, EngineFiles, Executor
    from .gpu import Driver, Gpu, cuda_driver, cuda_libraries, tensorrt_library
    from .inputs import random_inputs, read_inputs, write_arrays
    from .kept_programs import LIMIT_VARIABLE, Room, keep_program, keep_weights, room, take_program, take_weights, told_of
    from .kernel_times import Timed
    from .limits import Limits, Measured, measure_limits, measured_limits
    from .machine import BASELINE, FEATURES, Caches, Processor, in_order, physical_cores, processor
    from .manifest import (
        Decision,
        FileRecord,
        Kind,
        Manifest,
        NodeCount,
        OptionValue,
        PassRecord,
        Placement,
        SignatureEntry,
        Source,
        options_from_json,
        options_to_json,
    )
    from .measuring import Contestant, Measurement, Workload, measure, measure_reference
    from .native_executor import NativeExecutor, NativeOptions
    from .native_plan import (
        ALIGNMENT,
        ARENA,
        CONSTANTS,
        CONSTANTS_FILE,
        FIRST_VALUE,
        LIBRARY_FILE,
        MOST_ARGUMENTS,
        MOST_ROWS,
        NATIVE_PLAN_FILE,
        STATUS,
        Argument,
        NativeBlock,
        NativeBuffer,
        NativePlace,
        NativePlan,
        NativeStep,
        NativeValue,
        aligned_memory,
    )
    from .onnxruntime_executor import OnnxRuntimeOptions
    from .openvino_executor import BIN_FILE, OPS_FILE, XML_FILE, OpenVinoOptions
    from .plan import PLAN, PLAN_FILE, Plan, Step, Variant
    from .precision import PrecisionChoice, PrecisionReport, PrecisionRow
    from .profiling import PROFILERS, Call, Kernel, Part, Passed, Profile
    from .program import Program, load
    from .provenance import Provenance
    from .racing import Fate, Race, Runner
    from .scratch import no_scratch, scratch_folder
    from .signature import FeedChecker, Feeds
    from .spilling import spill
    from .strict_json import Fields, Json, canonical, parse_object
    from .verdict import FEWEST_ROUNDS, Comparison, Verdict, compare
    from .weights import WEIGHTS_FILE, WeightsLayout, WeightView, layout_weights, read_weights
    from .workers import Worker

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
    "write_passing_folder",
    "Manifest",
    "SignatureEntry",
    "Kind",
    "Source",
    "PassRecord",
    "Placement",
    "Decision",
    "PrecisionReport",
    "PrecisionRow",
    "PrecisionChoice",
    "NodeCount",
    "FileRecord",
    "OptionValue",
    "options_from_json",
    "options_to_json",
    # weights
    "WeightView",
    "WeightsLayout",
    "layout_weights",
    "read_weights",
    "WEIGHTS_FILE",
    "spill",
    "EngineFiles",
    # programs of several parts
    "PLAN",
    "PLAN_FILE",
    "Plan",
    "Step",
    "Variant",
    # engines
    "EXECUTORS",
    "Executor",
    "OnnxRuntimeOptions",
    "OpenVinoOptions",
    "BIN_FILE",
    "OPS_FILE",
    "XML_FILE",
    # libraries of kernels
    "NativeExecutor",
    "NativeOptions",
    "NativeBlock",
    "NativeBuffer",
    "NativePlace",
    "COPY",
    "IMAGE_FILES",
    "LAUNCHES_FILE",
    "NVIDIA",
    "SOURCE_FILE",
    "CudaExecutor",
    "Extents",
    "launches_to_bytes",
    "NativePlan",
    "NativeStep",
    "NativeValue",
    "aligned_memory",
    "Argument",
    "NATIVE_PLAN_FILE",
    "LIBRARY_FILE",
    "CONSTANTS_FILE",
    "ARENA",
    "CONSTANTS",
    "STATUS",
    "FIRST_VALUE",
    "MOST_ARGUMENTS",
    "MOST_ROWS",
    "ALIGNMENT",
    # measuring
    "Fate",
    "Race",
    "Runner",
    "Timed",
    "Contestant",
    "Workload",
    "Measurement",
    "random_inputs",
    "read_inputs",
    "write_arrays",
    "measure",
    "measure_reference",
    "FEWEST_ROUNDS",
    "Comparison",
    "Verdict",
    "compare",
    "Profile",
    "Kernel",
    "Call",
    "Part",
    "Passed",
    "PROFILERS",
    "Provenance",
    # this machine
    "BASELINE",
    "FEATURES",
    "Caches",
    "Processor",
    "in_order",
    "physical_cores",
    "processor",
    "Driver",
    "Gpu",
    "cuda_driver",
    "cuda_libraries",
    "tensorrt_library",
    "Limits",
    "Measured",
    "measure_limits",
    "measured_limits",
    # the cache, and processes apart
    "Entry",
    "cache_folder",
    "read_entry",
    "write_entry",
    "why_no_cache",
    "LIMIT_VARIABLE",
    "Room",
    "keep_program",
    "keep_weights",
    "room",
    "take_program",
    "take_weights",
    "told_of",
    "run_child",
    "Worker",
    "scratch_folder",
    "no_scratch",
    "parse_object",
    "Fields",
    "Json",
    "canonical",
    # errors
    "RunError",
    "ArtifactError",
    "FeedError",
    "EngineFailure",
]

_HOMES = {
    "artifact": ("Artifact", "is_artifact", "open_artifact", "write_artifact", "write_artifact_folder", "write_passing_folder"),
    "cache": ("Entry", "cache_folder", "read_entry", "why_no_cache", "write_entry"),
    "children": ("run_child",),
    "cuda_executor": (
        *("COPY", "IMAGE_FILES", "LAUNCHES_FILE", "NVIDIA", "SOURCE_FILE"),
        *("CudaExecutor", "Extents", "launches_to_bytes"),
    ),
    "errors": ("ArtifactError", "EngineFailure", "FeedError", "RunError"),
    "executor": ("EXECUTORS", "EngineFiles", "Executor"),
    "gpu": ("Driver", "Gpu", "cuda_driver", "cuda_libraries", "tensorrt_library"),
    "inputs": ("random_inputs", "read_inputs", "write_arrays"),
    "limits": ("Limits", "Measured", "measure_limits", "measured_limits"),
    "machine": ("BASELINE", "FEATURES", "Caches", "Processor", "in_order", "physical_cores", "processor"),
    "manifest": (
        *("Decision", "FileRecord", "Kind", "Manifest", "NodeCount", "OptionValue", "options_from_json", "options_to_json"),
        *("PassRecord", "Placement", "SignatureEntry", "Source"),
    ),
    "kept_programs": (
        *("LIMIT_VARIABLE", "Room", "keep_program", "keep_weights", "room"),
        *("take_program", "take_weights", "told_of"),
    ),
    "kernel_times": ("Timed",),
    "measuring": ("Contestant", "Measurement", "Workload", "measure", "measure_reference"),
    "native_executor": ("NativeExecutor", "NativeOptions"),
    "native_plan": (
        *("ALIGNMENT", "ARENA", "CONSTANTS", "CONSTANTS_FILE", "FIRST_VALUE", "LIBRARY_FILE", "MOST_ARGUMENTS", "MOST_ROWS"),
        *("NATIVE_PLAN_FILE", "STATUS", "Argument", "NativeBlock", "NativeBuffer", "NativePlace"),
        *("NativePlan", "NativeStep", "NativeValue"),
        "aligned_memory",
    ),
    "onnxruntime_executor": ("OnnxRuntimeOptions",),
    "openvino_executor": ("BIN_FILE", "OPS_FILE", "OpenVinoOptions", "XML_FILE"),
    "plan": ("PLAN", "PLAN_FILE", "Plan", "Step", "Variant"),
    "precision": ("PrecisionChoice", "PrecisionReport", "PrecisionRow"),
    "profiling": ("PROFILERS", "Call", "Kernel", "Part", "Passed", "Profile"),
    "program": ("Program", "load"),
    "provenance": ("Provenance",),
    "racing": ("Fate", "Race", "Runner"),
    "scratch": ("no_scratch", "scratch_folder"),
    "signature": ("FeedChecker", "Feeds"),
    "strict_json": ("Fields", "Json", "canonical", "parse_object"),
    "verdict": ("FEWEST_ROUNDS", "Comparison", "Verdict", "compare"),
    "spilling": ("spill",),
    "weights": ("WEIGHTS_FILE", "WeightView", "WeightsLayout", "layout_weights", "read_weights"),
    "workers": ("Worker",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
