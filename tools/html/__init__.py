"""A graph as one HTML page that needs no network: `render_html(graph, title=…)` is what `irc inspect --html` writes."""

from .placing import Placing, Table
from .render import render_html

__all__ = ["Placing", "Table", "render_html"]
