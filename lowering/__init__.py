"""How a graph becomes something that runs: targets, engines that say what they take, and the driver from model to program."""

from .driver import Compiled, CompileOptions, Timing, compile_graph, compile_model, pass_manager
from .engine import Engine, EngineFiles, Verdict
from .engines import ENGINES, find_engine
from .targets import TARGETS, Target, find_target
from .verification import Agreement, distance, random_outputs

__all__ = [
    "ENGINES",
    "TARGETS",
    "Agreement",
    "CompileOptions",
    "Compiled",
    "Engine",
    "EngineFiles",
    "Target",
    "Timing",
    "Verdict",
    "compile_graph",
    "compile_model",
    "distance",
    "find_engine",
    "find_target",
    "pass_manager",
    "random_outputs",
]
