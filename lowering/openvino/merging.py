"""One `model.bin` for several IRs with the same constants: the first one's with what the others have beside it behind.

Law: every constant keeps its bytes, only the place where they begin changes, in `model.xml` and in `ops.onnx` alike.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree

import onnx

from irc.runtime import BIN_FILE, OPS_FILE, XML_FILE, EngineFiles, no_scratch, scratch_folder

ALIGNMENT = 64
_PLACE = re.compile(rb'(<data [^<>]*\boffset=")(\d+)(" size=")(\d+)(")')

Place = tuple[int, int]
"""Where a constant begins in a `model.bin`, and how many bytes it has."""


def one_bin(parts: Mapping[str, EngineFiles]) -> dict[str, EngineFiles]:
    """The parts, those that are IRs with one `model.bin`; one whose constants cannot be told apart keeps its own."""
    merged = dict(parts)
    places = {name: found for name, part in parts.items() if (found := _constants(part))}
    if len(places) < 2:
        return merged
    first = memoryview(parts[next(iter(places))].view(BIN_FILE))
    end, more = len(first), list[memoryview]()
    known: dict[tuple[int, bytes], int] = {}
    moved: dict[str, dict[Place, int]] = {}
    for name, own in places.items():
        data = memoryview(parts[name].view(BIN_FILE))
        moved[name] = {}
        for begin, size in own:
            content = data[begin : begin + size]
            key = size, hashlib.sha256(content).digest()
            if key not in known and name == next(iter(places)):
                known[key] = begin
            elif key not in known:
                gap = -end % ALIGNMENT
                more += [memoryview(bytes(gap)), content]
                known[key] = end + gap
                end += gap + size
            moved[name][begin, size] = known[key]
    chunks = (_mapped(chain([first], more)),) if more else (first,)
    merged.update((name, _with_bin(parts[name], chunks, moved[name])) for name in places)
    return merged


def _constants(part: EngineFiles) -> list[Place]:
    """Where the constants of an IR are; none where that is not as plain as it should be."""
    if XML_FILE not in part.files or BIN_FILE not in part.files:
        return []
    xml = part.read(XML_FILE)
    layers = ElementTree.fromstring(xml).iterfind(".//layer[@type='Const']/data")
    told = [(int(data.get("offset", -1)), int(data.get("size", -1))) for data in layers]
    found = [(int(match[2]), int(match[4])) for match in _PLACE.finditer(xml)]
    return list(dict.fromkeys(told)) if told == found else []


def _with_bin(part: EngineFiles, chunks: Sequence[memoryview], moved: Mapping[Place, int]) -> EngineFiles:
    def there(match: re.Match[bytes]) -> bytes:
        begin = moved[int(match[2]), int(match[4])]
        return match[1] + str(begin).encode() + match[3] + match[4] + match[5]

    files = {**part.files, BIN_FILE: chunks, XML_FILE: (_PLACE.sub(there, part.read(XML_FILE)),)}
    if OPS_FILE in part.files:
        model = onnx.ModelProto.FromString(part.read(OPS_FILE))
        for tensor in model.graph.initializer:
            entries = {entry.key: entry for entry in tensor.external_data}
            if "location" in entries and entries["location"].value == BIN_FILE:
                place = int(entries["offset"].value), int(entries["length"].value)
                entries["offset"].value = str(moved[place])
        files[OPS_FILE] = (model.SerializeToString(deterministic=True),)
    return EngineFiles(files, part.weights)


def _mapped(chunks: chain[memoryview]) -> memoryview:
    """Chunks in one piece, in a file that is gone already: they need no memory until they are read."""
    with scratch_folder("openvino") as folder:
        try:
            return _written(folder / BIN_FILE, chunks)
        except OSError as error:
            raise no_scratch(folder.parent, error) from error


def _written(path: Path, chunks: chain[memoryview]) -> memoryview:
    with open(path, "x+b") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
