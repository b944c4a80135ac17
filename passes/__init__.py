"""What may be done to a program: passes, rules, pipelines, and the manager that runs them as transactions."""

from .base import Applied, Context, Contract, Miss, Pass, operands_of
from .checking import RegionChecker, Undone
from .fusion import ELEMENTWISE, unfused
from .instruments import DumpIR, PrintAfter
from .language.examples import example_graphs
from .manager import Instrument, PassManager, PassRecord, op_count
from .pipeline import parse_pipeline, pipeline_text
from .registry import LEVELS, PASSES, Registry, registry
from .rewriter import No, Rewriter, Rule, rule
from .rules import catalogue_by_topic

__all__ = [
    "ELEMENTWISE",
    "LEVELS",
    "PASSES",
    "Applied",
    "Context",
    "Contract",
    "DumpIR",
    "Instrument",
    "Miss",
    "No",
    "Pass",
    "PassManager",
    "PassRecord",
    "PrintAfter",
    "RegionChecker",
    "Registry",
    "Rewriter",
    "Rule",
    "Undone",
    "catalogue_by_topic",
    "example_graphs",
    "op_count",
    "operands_of",
    "parse_pipeline",
    "pipeline_text",
    "registry",
    "rule",
    "unfused",
]
