"""Puts a page together: the template, its style and scripts, and the model's data, which is text and never markup."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib import resources

from irc.ir import Graph

from .data import page_data
from .placing import Placing

SCRIPTS = ("model.js", "graph.js", "panels.js", "text.js", "page.js")
_PLACE = re.compile(r"\{\{(\w+)\}\}")
_UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&"}


def render_html(graph: Graph, *, title: str, facts: Mapping[str, str] = {}, placing: Placing | None = None) -> str:
    """One HTML file that shows a graph and needs nothing else; `facts` stand beside what the graph itself tells.

    Where `placing` has several engines, their colours are shown first.

    The same graph gives the same text. Whatever stems from the model is written in ASCII, as data and never as markup.
    """
    style = _file("page.css")
    script = '"use strict";\n' + "\n".join(map(_file, SCRIPTS))
    # Inside JSON these characters occur in strings alone, where an escape means the same.
    data = json.dumps(page_data(graph, title, facts, placing or Placing()), separators=(",", ":")).translate(_UNSAFE)
    parts = {
        "title": _text(title),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
        "data": data,
    }
    return _PLACE.sub(lambda match: parts[match[1]], _file("page.html"))


def _file(name: str) -> str:
    return resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8")


def _text(text: str) -> str:
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode()


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
