"""Rules as data: the language of `*.rules` files, from text to rules the rewriter drives."""

from .compiling import load_rules, read_rules
from .errors import RuleError

__all__ = ["RuleError", "load_rules", "read_rules"]
