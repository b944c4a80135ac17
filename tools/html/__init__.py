"""A graph as one HTML page that needs no network: `render_html(graph, title=…)` is what `irc inspect --html` writes."""

from .render import render_html

__all__ = ["render_html"]
