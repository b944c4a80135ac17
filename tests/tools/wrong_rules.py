"""The wrong rules of `tests/passes/planted.rules`, each with a model that has a place for it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from irc.ir import save_onnx
from irc.ir.text import parse_graph

from .models import Shell

FILE = Path(__file__).resolve().parents[1] / "passes" / "planted.rules"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("planted", FILE.with_suffix(".py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["planted"] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


_MODULE: Any = _load()
PLACE: str = _MODULE.PLACE
PLANTED: dict[str, str] = {one.rule.name: one.text for one in _MODULE.PLANTED}
"""The text of a graph with a place for it, by the rule's name."""


def place(shell: Shell, rule: str) -> tuple[object, ...]:
    """Write the graph with a place for a rule; it, and the flags that load the rule."""
    save_onnx(parse_graph(PLANTED[rule]), shell.folder / "place.onnx")
    return "place.onnx", "--load", FILE
