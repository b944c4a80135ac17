"""What may be done to a program: passes, rules, pipelines, and the manager that runs them as transactions."""

from .base import Applied, Context, Contract, Miss, Pass, erase_dead, operands_of
from .checking import RegionChecker, Undone
from .codebooks import is_codebook_op, looked_up
from .compression import PrunedGroup, Pruning, factorize, grams_wanted, prune_channels
from .fusion import ELEMENTWISE, unfused
from .instruments import DumpIR, PrintAfter
from .integer_sums import steps_of_sums
from .language.examples import example_graphs
from .manager import Instrument, PassManager, PassRecord, op_count
from .pipeline import parse_pipeline, pipeline_text
from .precision import (
    Form,
    Range,
    Site,
    narrow,
    pattern,
    patterns,
    put_after,
    quantize,
    quantize_dynamically,
    quantize_weights,
    site_of,
    sites,
    wanted_values,
    why_not_narrow,
    why_not_quantized,
    why_not_quantized_weights,
)
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
    "Form",
    "Instrument",
    "Miss",
    "No",
    "Pass",
    "PassManager",
    "PassRecord",
    "PrintAfter",
    "PrunedGroup",
    "Pruning",
    "Range",
    "RegionChecker",
    "Registry",
    "Rewriter",
    "Rule",
    "Site",
    "Undone",
    "catalogue_by_topic",
    "erase_dead",
    "example_graphs",
    "factorize",
    "grams_wanted",
    "is_codebook_op",
    "looked_up",
    "narrow",
    "op_count",
    "operands_of",
    "parse_pipeline",
    "pattern",
    "patterns",
    "pipeline_text",
    "prune_channels",
    "put_after",
    "quantize",
    "quantize_dynamically",
    "quantize_weights",
    "registry",
    "rule",
    "site_of",
    "sites",
    "steps_of_sums",
    "unfused",
    "wanted_values",
    "why_not_narrow",
    "why_not_quantized",
    "why_not_quantized_weights",
]
