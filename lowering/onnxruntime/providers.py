"""The names of ONNX Runtime's execution providers, as users give them.

Law: what ONNX Runtime has never heard of is a slip of the pen; a provider that it knows may be missing here and still be right.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from irc.ir import UsageError, closest


def check_providers(names: Sequence[str]) -> None:
    """Raise UsageError for a name that no provider has; imports ONNX Runtime, whose the names are."""
    onnxruntime: Any = import_module("onnxruntime")
    known: list[str] = onnxruntime.get_all_providers()
    for name in names:
        if name not in known:
            here = ", ".join(onnxruntime.get_available_providers())
            raise UsageError(f"ONNX Runtime has no provider '{name}'", hint=closest(name, known) or f"here are {here}")


__all__ = ["check_providers"]
