"""HTML pages that need no network: `render_html(graph, title=…)` is what `irc inspect --html` writes, `precision_page` what
`irc compile --html` does.
"""

from .placing import Placing, Table
from .precision import precision_page
from .render import render_html

__all__ = ["Placing", "Table", "precision_page", "render_html"]
