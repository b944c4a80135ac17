"""The lossless text form of graphs: `parse_graph(print_graph(g))` is `g`, locations and weights included."""

from .parser import TextError, parse_graph
from .printer import WeightTable, print_graph
from .weights import load_weights, save_weights

__all__ = ["TextError", "WeightTable", "load_weights", "parse_graph", "print_graph", "save_weights"]
