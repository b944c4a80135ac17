"""The engines irc ships, as a visible list."""

from __future__ import annotations

from irc.ir import UsageError, closest

from .engine import Engine
from .onnxruntime import OnnxRuntime

ENGINES: tuple[Engine, ...] = (OnnxRuntime(),)


def find_engine(name: str) -> Engine:
    """The engine called `name`. Raises UsageError for an unknown one."""
    for engine in ENGINES:
        if engine.name == name:
            return engine
    hint = closest(name, [e.name for e in ENGINES]) or f"known engines: {', '.join(e.name for e in ENGINES)}"
    raise UsageError(f"there is no engine '{name}'", hint=hint)
