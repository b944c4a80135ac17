"""What ONNX Runtime's CPU kernels take, asked of the installed library itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from irc.ir import Op, schema

from .package import GPU, package
from .trial import is_expanded

NEWEST_OPSET = 26
"""The newest opset that the ONNX Runtime we depend on (pyproject.toml) loads."""
_NO_END = 2**31 - 1
_HALF = {"tensor(float16)": "tensor(float)"}


@dataclass(frozen=True)
class Kernel:
    """One registered kernel: the versions of the op it serves, and the types each of its type variables admits."""

    first: int
    last: int
    types: tuple[tuple[str, frozenset[str]], ...]

    def serves(self, since: int) -> bool:
        """Whether it serves the op as of opset `since`; a kernel without an end serves only the version it starts at."""
        return since == self.first if self.last == _NO_END else self.first <= since <= self.last


@lru_cache(maxsize=1)
def kernels() -> dict[tuple[str, str], tuple[Kernel, ...]]:
    """The CPU kernels by domain and op name."""
    library: Any = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    found: dict[tuple[str, str], list[Kernel]] = {}
    for entry in library.get_all_opkernel_def():
        if entry.provider != "CPUExecutionProvider":
            continue
        types = tuple((variable, frozenset(admitted)) for variable, admitted in entry.type_constraints.items())
        first, last = entry.version_range
        found.setdefault((entry.domain, entry.op_name), []).append(Kernel(first, last, types))
    return {key: tuple(entries) for key, entries in found.items()}


def why_not(op: Op, opset: int) -> str:
    """Why no CPU kernel runs `op` in a model of that opset, as a clause; empty when one does or ONNX defines it by others."""
    if op.is_a("Constant") or (op.bodies and not op.domain):
        return ""
    own: Any = None if op.domain else schema.find("", op.name, op.version or opset)  # onnx's stubs do not know all of it
    if package().name == GPU and (op.domain or (own is not None and own.since_version <= NEWEST_OPSET)):
        return _tried(op, opset)
    candidates = kernels().get((op.domain, op.name), ())
    if op.domain:
        return "" if candidates else f"no kernel for {op.qualified_name} is registered"
    if own is None:
        return f"ONNX has no op {op.name} at opset {op.version or opset}"
    if own.since_version > NEWEST_OPSET:
        return f"ONNX Runtime does not know opset {own.since_version} yet, in which {op.name} is written"
    serving = [kernel for kernel in candidates if kernel.serves(own.since_version)]
    types = _types(op, own)
    if any(_admits(kernel, types) for kernel in serving):
        return ""
    if (own.has_function or own.has_context_dependent_function) and is_expanded(op, opset):
        return ""
    if not serving:
        return f"no kernel for {op.name} of opset {own.since_version} is registered"
    return f"no kernel for {op.name} takes {', '.join(sorted({t for _, t in types}))}"


def _tried(op: Op, opset: int) -> str:
    """As `why_not`, without the list of kernels: the package for GPUs ends the process at it where a library is missing."""
    return "" if is_expanded(op, opset) else f"ONNX Runtime makes no session of {op.qualified_name} alone at opset {opset}"


def _types(op: Op, own: Any) -> list[tuple[str, str]]:
    """The types of operands and results with the type variables that stand for them."""
    pairs: list[tuple[str, str]] = []
    for formals, values in ((own.inputs, op.operands), (own.outputs, op.results)):
        for index, value in enumerate(values):
            text = "" if value is None else schema.type_string(value.type)
            if text:
                pairs.append((formals[min(index, len(formals) - 1)].type_str, text))
    return pairs


def _admits(kernel: Kernel, types: list[tuple[str, str]]) -> bool:
    # Where a kernel lacks float16, ONNX Runtime casts to float around it.
    admitted = dict(kernel.types)
    return all(v not in admitted or t in admitted[v] or _HALF.get(t) in admitted[v] for v, t in types)
