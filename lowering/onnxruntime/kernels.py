"""What ONNX Runtime's CPU kernels take, asked of the installed library itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from irc.ir import Op, schema

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
    if op.is_a("Constant") or op.bodies:
        return ""
    candidates = kernels().get((op.domain, op.name), ())
    if op.domain:
        return "" if candidates else f"no kernel for {op.qualified_name} is registered"
    own: Any = schema.find("", op.name, op.version or opset)  # onnx's stubs do not know all of it
    if own is None:
        return f"ONNX has no op {op.name} at opset {op.version or opset}"
    if own.has_function or own.has_context_dependent_function:
        return ""
    serving = [kernel for kernel in candidates if kernel.serves(own.since_version)]
    if not serving:
        return f"no kernel for {op.name} of opset {own.since_version} is registered"
    types = _operand_types(op, own.since_version)
    if any(_admits(kernel, types) for kernel in serving):
        return ""
    return f"no kernel for {op.name} takes {', '.join(sorted({t for _, t in types}))}"


def _operand_types(op: Op, since: int) -> list[tuple[str, str]]:
    own = schema.find("", op.name, since)
    assert own is not None
    pairs: list[tuple[str, str]] = []
    for index, operand in enumerate(op.operands):
        text = "" if operand is None else schema.type_string(operand.type)
        if text:
            pairs.append((own.inputs[min(index, len(own.inputs) - 1)].type_str, text))
    return pairs


def _admits(kernel: Kernel, types: list[tuple[str, str]]) -> bool:
    # Where a kernel lacks float16, ONNX Runtime casts to float around it.
    admitted = dict(kernel.types)
    return all(v not in admitted or t in admitted[v] or _HALF.get(t) in admitted[v] for v, t in types)
