"""A walk over an ONNX file in protobuf's wire format that takes the weights out and leaves them where they are.

`skeleton(data)` returns the same message with every large `raw_data` replaced by its place in `data`, so that a model of
any size parses in the memory its graph needs. Format: protobuf encoding specification; field numbers: onnx.proto.
"""

from __future__ import annotations

import secrets

import onnx

from ..diagnostics import ModelError

SMALLEST_EXCISED = 1024

# Message kind -> field number -> kind of the message in that field; only fields that can lead to a tensor.
_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR, _SPARSE, _FUNCTION = range(7)
_PATHS: dict[int, dict[int, int]] = {
    _MODEL: {7: _GRAPH, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
}
_RAW_DATA = 9
_EXTERNAL_DATA_TAG = (13 << 3) | 2
_DEEPEST = 100 * 3


class Skeleton:
    """A model without its large tensors: `message` to parse, and `span_of` to find what was taken out of `data`."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self._key = f"irc.span.{secrets.token_hex(8)}"
        chunks = self._rebuild(0, len(data), _MODEL, 0)
        self.message: bytes = bytes(data) if chunks is None else b"".join(chunks)

    def span_of(self, tensor: onnx.TensorProto) -> memoryview | None:
        """The bytes this tensor had in the file, or None when they were left in the message."""
        if not tensor.external_data:
            return None
        for entry in tensor.external_data:
            if entry.key == self._key:
                offset, length = map(int, entry.value.split(":"))
                return self.data[offset : offset + length]
        return None

    def _rebuild(self, start: int, end: int, kind: int, depth: int) -> list[bytes | memoryview] | None:
        """The chunks of the message in data[start:end], or None when nothing was taken out of it."""
        if depth > _DEEPEST:
            raise ModelError("the model nests graphs too deeply to be read")
        data, paths = self.data, _PATHS.get(kind, {})
        chunks: list[bytes | memoryview] = []
        copied = position = start
        while position < end:
            field_start = position
            tag, position = self._varint(position, end)
            wire_type, field = tag & 7, tag >> 3
            if wire_type == 0:
                _, position = self._varint(position, end)
                continue
            if wire_type != 2:
                position += self._fixed_size(wire_type, field_start)
                continue
            length, position = self._varint(position, end)
            body, position = position, position + length
            if position > end:
                raise ModelError(f"the file ends in the middle of a field at byte {field_start}", hint="it is truncated")
            if length < SMALLEST_EXCISED:
                continue
            if kind == _TENSOR:
                inner = self._placeholder(body, length) if field == _RAW_DATA else None
            elif field in paths:
                rebuilt = self._rebuild(body, position, paths[field], depth + 1)
                inner = None if rebuilt is None else [_encode(tag), _encode(sum(map(len, rebuilt))), *rebuilt]
            else:
                inner = None
            if inner is not None:
                chunks.append(data[copied:field_start])
                chunks.extend(inner)
                copied = position
        if position != end:
            raise ModelError(f"the file ends in the middle of a field at byte {end}", hint="it is truncated")
        if copied == start:
            return None
        chunks.append(data[copied:end])
        return chunks

    def _placeholder(self, offset: int, length: int) -> list[bytes | memoryview]:
        entry = onnx.StringStringEntryProto(key=self._key, value=f"{offset}:{length}").SerializeToString()
        return [_encode(_EXTERNAL_DATA_TAG), _encode(len(entry)), entry]

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        value = shift = 0
        data = self.data
        while position < end:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
            shift += 7
            if shift > 63:
                break
        raise ModelError(
            f"this is not an ONNX file: byte {position} is no protobuf field", hint="it is truncated or something else"
        )

    def _fixed_size(self, wire_type: int, position: int) -> int:
        if wire_type == 1:
            return 8
        if wire_type == 5:
            return 4
        raise ModelError(
            f"this is not an ONNX file: byte {position} is no protobuf field", hint="it is truncated or something else"
        )


def _encode(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def field_prefix(number: int, length: int) -> bytes:
    """The bytes in front of a length-delimited field."""
    return _encode((number << 3) | 2) + _encode(length)
