# pyright: basic
"""How a captured graph becomes a file: a header, the text of the graph, and all its weights in it. Needs no exporter."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import onnx.defs
from onnx import helper

from irc.ir import Graph, Tensor
from irc.ir.text import parse_graph, print_graph

CANONICAL = 24
_LONG_NAME = re.compile(r"%(\"[^\"]*\"|[\w.$\-]*/[\w.$/\-]*)")
FOLDER = Path(__file__).parents[1]
LONGEST = 150
"""Lines a file should not exceed."""


def write(source: str, name: str, tool: str, pattern: str, headers: dict[str, str], graph: Graph) -> str:
    """Write one graph with its header, unless another source spells it the same; the line to report."""
    path = FOLDER / source / f"{name}.irtext"
    path.unlink(missing_ok=True)
    text = text_of(graph)
    twin = _spelled().setdefault(fingerprint(graph), path)
    if twin != path and twin.exists():
        return f"{source}/{name}: as {twin.parent.name}/{twin.stem}"
    _spelled()[fingerprint(graph)] = path
    text = header(tool, pattern, headers) + text
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    lines = text.count("\n")
    return f"{source}/{name}: {lines} lines, {len(text)} bytes" + ("  LONG" if lines > LONGEST else "")


@functools.cache
def _spelled() -> dict[str, Path]:
    """What is there already, by fingerprint."""
    return {fingerprint(parse_graph(path.read_text(encoding="utf-8"))): path for path in sorted(FOLDER.glob("*/*.irtext"))}


def fingerprint(graph: Graph) -> str:
    """A digest that names, the order of ops and attributes at their default do not change."""
    known = {value: f"input {index} {value.type}" for index, value in enumerate(graph.inputs)}
    for op in graph:
        if op.is_constant:
            known[op.result] = f"{op.value.type} {op.value.digest}"
            continue
        schema = onnx.defs.get_schema(op.name, CANONICAL) if not op.domain and onnx.defs.has(op.name) else None
        defaults = (
            {key: helper.get_attribute_value(a.default_value) for key, a in schema.attributes.items() if a.default_value.name}
            if schema
            else {}
        )
        said = sorted(
            (k, str(v)) for k, v in op.attributes.items() if not isinstance(v, Graph) and v != _plain(defaults.get(k))
        )
        operands = [known.get(v, "outer") if v is not None else "_" for v in op.operands]
        bodies = [print_graph(body, locations=False) for body in op.bodies]
        digest = hashlib.sha256(repr((op.name, said, operands, bodies)).encode()).hexdigest()
        known |= {result: f"{digest} {index}" for index, result in enumerate(op.results)}
    return hashlib.sha256(repr([known.get(v, "") for v in graph.outputs]).encode()).hexdigest()


def _plain(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else tuple(value) if isinstance(value, list) else value


def header(tool: str, pattern: str, headers: dict[str, str]) -> str:
    """The comment lines in front of a graph."""
    rows = {"source": tool, "pattern": pattern} | headers
    return "".join(f"// {key}: {text}\n" for key, text in rows.items() if text)


def text_of(graph: Graph) -> str:
    """The text of a graph with all its weights in it, checked to parse back."""
    graph.name = "main"
    graph.metadata.clear()
    used = {op.domain for op in graph.walk()}
    graph.opsets = {domain: version for domain, version in graph.opsets.items() if domain in used}
    weights: dict[str, Tensor] = {}
    text = print_graph(graph, weights=weights, locations=False)
    for digest, tensor in weights.items():
        text = text.replace(f"#{digest}", _inline(tensor))
    text = _LONG_NAME.sub(_short_names(text), text)
    parse_graph(text)
    return text


def _inline(tensor: Tensor) -> str:
    """All elements: as decimals where those are exact and no longer than the bytes in hexadecimal."""
    assert isinstance(tensor.data, memoryview)
    raw = "0x" + bytes(tensor.data).hex()
    if tensor.dtype.is_float:
        decimal = "[" + ", ".join(repr(float(v)) for v in tensor.array.reshape(-1)) + "]"
        return decimal if len(decimal) <= len(raw) * 1.25 else raw
    if tensor.dtype.is_integer and tensor.dtype.bits >= 8:
        return "[" + ", ".join(str(int(v)) for v in tensor.array.reshape(-1)) + "]"
    return raw


def _short_names(text: str) -> Callable[[re.Match[str]], str]:
    """Exporters' names are paths (`%/layer/attention/Add_output_0`): keep their last part, made unique."""
    taken = set(re.findall(r"%([\w.$/\-]+)", text))
    short: dict[str, str] = {}

    def rename(match: re.Match[str]) -> str:
        name = match[0][1:].strip('"')
        if name not in short:
            last = re.split(r"/|::", re.sub(r":\d+$", "", name.rstrip("/")))[-1].removesuffix("_output_0")
            last = re.sub(r"\W+", "_", re.sub(r"\d{9,}", "", last)).strip("_") or "v"
            candidate, number = last, 1
            while candidate in taken:
                candidate, number = f"{last}.{number}", number + 1
            taken.add(candidate)
            short[name] = candidate
        return "%" + short[name]

    return rename
