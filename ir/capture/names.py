"""Where a node says it came from: its name, or the source line and module path that PyTorch's exporter writes beside it."""

from __future__ import annotations

import re

import onnx

from ..diagnostics import ModelError
from ..location import Location, at

LOCATION_KEY = "irc.location"
_STACK_TRACE = "pkg.torch.onnx.stack_trace"
_SCOPES = "pkg.torch.onnx.name_scopes"
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")


def utf8(text: str) -> str:
    """The text; raises ModelError when protobuf handed out bytes, as it does for a string that is no UTF-8."""
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ModelError(f"the name {bytes(text)!r} is not UTF-8", hint="the file is damaged")
    return text


def node_location(node: onnx.NodeProto, prefix: str = "") -> Location:
    """The location of a captured node; a nameless one is called after what it is and what it makes."""
    if node.metadata_props:
        properties = {utf8(entry.key): utf8(entry.value) for entry in node.metadata_props}
        written = properties.get(LOCATION_KEY) or _torch_location(properties)
        if written:
            return at(prefix + written)
    if node.name:
        return at(prefix + utf8(node.name))
    made = next((name for name in node.output if name), "")
    return at(f"{prefix}{node.op_type}({made})")


def _torch_location(properties: dict[str, str]) -> str:
    line = _last_frame(properties.get(_STACK_TRACE, ""))
    path = _module_path(properties.get(_SCOPES, ""))
    if line and path:
        return f"{line} ({path})"
    return line or path


def _last_frame(trace: str) -> str:
    # A frame reads:  File "dir/model.py", line 41, in forward
    position = trace.rfind('File "')
    if position < 0:
        return ""
    file, _, rest = trace[position + 6 :].partition('", line ')
    number = rest.split(",", 1)[0].strip()
    return f"{file.rsplit('/', 1)[-1]}:{number}" if number.isdigit() else ""


def _module_path(scopes: str) -> str:
    # A list literal from the outermost module ('') to the fx node itself; the one before the last is the module.
    # What the exporter could not place it puts under a name of its own, which says nothing.
    names = [single or double for single, double in _QUOTED.findall(scopes)]
    modules = [name for name in names[:-1] if name and not name.startswith("_empty_nn_module")]
    return modules[-1] if modules else ""
