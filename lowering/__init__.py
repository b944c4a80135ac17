"""How a graph becomes something that runs: targets, engines that say what they take, and the driver from model to program."""

from .driver import Compiled, CompileOptions, Timing, compile_graph, compile_model, pass_manager, rewrite_checker
from .engine import Engine, EngineFiles, Verdict
from .engines import ENGINES, find_engine
from .targets import TARGETS, Target, find_target
from .verification import Agreement, Probe, Verify, check, distance, probe_of, random_outputs

__all__ = [
    "ENGINES",
    "TARGETS",
    "Agreement",
    "CompileOptions",
    "Compiled",
    "Engine",
    "EngineFiles",
    "Probe",
    "Target",
    "Timing",
    "Verdict",
    "Verify",
    "check",
    "compile_graph",
    "compile_model",
    "distance",
    "find_engine",
    "find_target",
    "pass_manager",
    "probe_of",
    "random_outputs",
    "rewrite_checker",
]
