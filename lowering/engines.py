"""The engines irc ships, as a visible list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from irc.ir import UnsupportedError, UsageError, closest
from irc.runtime import OptionValue

from .engine import Engine, Partial, Tunable
from .onnxruntime import OnnxRuntime, check_providers
from .openvino import OpenVino
from .options import CompileOptions
from .targets import Target
from .tvm import Tvm

ENGINES: list[Engine] = [OnnxRuntime(), OpenVino(), Tvm()]
"""Best-served first: the first one is used where nothing is measured. An engine of your own adds itself."""


def find_engine(name: str) -> Engine:
    """The engine called `name`. Raises UsageError for an unknown one."""
    for engine in ENGINES:
        if engine.name == name:
            return engine
    hint = closest(name, [e.name for e in ENGINES]) or f"known engines: {', '.join(e.name for e in ENGINES)}"
    raise UsageError(f"there is no engine '{name}'", hint=hint)


def choose_engine(options: CompileOptions, target: Target) -> Engine:
    """The engine asked for, or the usual one.

    Raises UnsupportedError where it does not serve the target, and UsageError for a provider that does not exist.
    """
    engine = ENGINES[0] if options.engine is None else find_engine(options.engine)
    serves = engine.serves(target)
    if serves:
        providers = options.engine_options.get("providers")
        if engine.name == "onnxruntime" and isinstance(providers, tuple):
            check_providers(providers)
        return configured(engine, options.engine_options)
    others = [each.name for each in ENGINES if each.serves(target)]
    hint = f"use --engine {others[0]}" if others else "use --target cpu"
    raise UnsupportedError(f"{engine.name} does not serve the target {target.name}: {serves.reason}", hint=hint)


def usual_engine(target: Target) -> Engine:
    """The first engine that serves a target which some engine serves."""
    return next(each for each in ENGINES if each.serves(target))


def settings_of(engine: Engine, opt_level: int, target: Target) -> Sequence[Mapping[str, OptionValue]]:
    """The settings of an engine for a level, at least one. Raises UnsupportedError where it has none that keep its promise."""
    settings = engine.settings(opt_level, target)
    if settings:
        return settings
    reason = f"{engine.name} keeps no answer to the bit, as O{opt_level} promises"
    raise UnsupportedError(reason, hint="use -O2, or --engine onnxruntime")


def configured(engine: Engine, settings: Mapping[str, OptionValue]) -> Engine:
    """The engine that makes kernels as its settings say, where it has a choice. Raises UsageError where that cannot be."""
    return engine.with_settings(settings) if isinstance(engine, Tunable) else engine


def rest_of(engine: Engine) -> list[Engine]:
    """The engine that gets what `engine` does not take even where a user asks for that alone; none for most."""
    return [find_engine(engine.rest)] if isinstance(engine, Partial) else []
