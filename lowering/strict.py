"""What `strict` means to an engine: nothing runs elsewhere than on the target, and what would have is named.

ONNX Runtime gives what its provider for GPUs has no kernel for to the CPU; a session can be told to refuse that, but then it
does not say which ops they are. One that may fall back is made to tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irc.ir import UnsupportedError, UsageError
from irc.runtime import EXECUTORS, EngineFailure, Manifest, OptionValue

from .engine import Engine, EngineFiles
from .targets import Kind, Target

CPU = "CPUExecutionProvider"
REFUSE, RECORD = "session.disable_cpu_ep_fallback", "session.record_ep_graph_assignment_info"
MOST_SHOWN = 20


def without_fallback(engine: Engine, target: Target, options: Mapping[str, OptionValue]) -> Mapping[str, OptionValue]:
    """Options of an engine under which it runs everything on the target. Raises UsageError where they name the CPU only."""
    if not _may_fall_back(engine, target):
        return options
    providers = options.get("providers", ())
    left = tuple(each for each in providers if each != CPU) if isinstance(providers, tuple) else ()
    if not left:
        raise UsageError("strict refuses the CPU, and no other provider is named", hint=f"name one for {target.name}")
    return {**options, "providers": left, "config": {**_config(options), REFUSE: "1"}}


def refused(
    engine: Engine, target: Target, manifest: Manifest, files: EngineFiles, options: Mapping[str, OptionValue]
) -> UnsupportedError | None:
    """The error that names the ops which the engine, with `options`, gives to the CPU; None where there are none."""
    if not _may_fall_back(engine, target):
        return None
    providers = options.get("providers", ())
    allowed = (*providers, CPU) if isinstance(providers, tuple) and CPU not in providers else providers
    config = {name: value for name, value in _config(options).items() if name != REFUSE}
    lenient = {**options, "providers": allowed, "config": {**config, RECORD: "1"}}
    try:
        executor: Any = EXECUTORS[engine.name](files.to_runtime(), lenient, manifest.inputs, manifest.outputs)
    except EngineFailure:
        return None  # it is not about falling back
    fallen = [(name, kind) for name, kind, provider in executor.assigned() if provider == CPU]
    executor.close()
    return naming(target, files, fallen) if fallen else None


def naming(target: Target, files: EngineFiles, fallen: list[tuple[str, str]]) -> UnsupportedError:
    """The error for nodes, by name and op type, that would run on the CPU."""
    ops = [files.op_names.get(name) for name, _ in fallen[:MOST_SHOWN]]
    shown = [
        f"{kind} at {name}" if op is None else f"{op.qualified_name} at {op.location}"
        for op, (name, kind) in zip(ops, fallen, strict=False)
    ]
    more = "\n  ..." if len(fallen) > MOST_SHOWN else ""
    listed = "\n  ".join(shown)
    reason = f"{len(fallen)} ops would run on the CPU instead of {target.name}, which strict refuses:\n  {listed}{more}\n"
    return UnsupportedError(reason, hint="compile without --strict, or replace them in the model")


def _may_fall_back(engine: Engine, target: Target) -> bool:
    return engine.name == "onnxruntime" and target.kind is Kind.CUDA


def _config(options: Mapping[str, OptionValue]) -> Mapping[str, str]:
    config = options.get("config", {})
    return config if isinstance(config, Mapping) else {}
