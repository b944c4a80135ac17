"""How a graph becomes something that runs: targets, engines that say what they take, and the driver from model to program."""

from .blocks import takes_signature
from .compiled import Compiled, CompiledVariant, Timing
from .defaults import without_defaults
from .driver import compile_graph, compile_model
from .engine import Blockwise, Engine, EngineFiles, Estimated, Native, Partial, Particular, Varied, Verdict, weight_view
from .engines import ENGINES, find_engine, settings_of
from .managers import pass_manager, rewrite_checker
from .options import CompileOptions
from .partition import MOST_PIECES, Piece, Refusal, partition, refusals, why_not_cut
from .precision.metrics import METRICS
from .precision.options import Precision, Score, check_precision
from .targets import FAMILIES, TARGETS, Kind, Target, find_target
from .verification import Agreement, Probe, Verify, check, distance, probe_of, random_outputs

__all__ = [
    "ENGINES",
    "FAMILIES",
    "METRICS",
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
    "partition",
    "pass_manager",
    "probe_of",
    "random_outputs",
    "refusals",
    "rewrite_checker",
    "settings_of",
    "takes_signature",
    "weight_view",
    "why_not_cut",
    "without_defaults",
]
