"""What may be done to a program: passes, rules, pipelines, and the manager that runs them as transactions."""

from .base import Context, Contract, Pass
from .instruments import DumpIR, PrintAfter
from .manager import Instrument, PassManager, PassRecord, op_count
from .pipeline import parse_pipeline, pipeline_text
from .registry import LEVELS, PASSES, Registry, registry
from .rewriter import No, Rewriter, Rule, rule

__all__ = [
    "LEVELS",
    "PASSES",
    "Context",
    "Contract",
    "DumpIR",
    "Instrument",
    "No",
    "Pass",
    "PassManager",
    "PassRecord",
    "PrintAfter",
    "Registry",
    "Rewriter",
    "Rule",
    "op_count",
    "parse_pipeline",
    "pipeline_text",
    "registry",
    "rule",
]
