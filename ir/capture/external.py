"""Tensor bytes outside the model file, resolved by us and never by a library that follows what the model says.

A location is a relative path below the model's folder, walked a component at a time without following links; the file must be
regular and have one name only; offset and length must lie inside it and be exactly what dtype and dims ask for.
"""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path

import onnx
from google.protobuf.message import Message
from onnx import TensorProto

from ..diagnostics import ModelError
from ..types import DType
from .names import utf8

_HINT = "external data must be an ordinary file in the model's own folder"


class ExternalFiles:
    """The files beside one model, each mapped once; `folder` is None for a model that came as bytes."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._mapped: dict[str, memoryview] = {}

    def read(self, tensor: onnx.TensorProto, dtype: DType, elements: int) -> memoryview:
        """The bytes of a tensor whose data lie outside the model; raises ModelError for anything out of bounds."""
        entries = {utf8(entry.key): utf8(entry.value) for entry in tensor.external_data}
        where = f"tensor '{tensor.name}'"
        location = entries.get("location", "")
        offset = _number(entries.get("offset", "0"), "offset", where)
        expected = dtype.byte_count(elements)
        length = _number(entries["length"], "length", where) if "length" in entries else expected
        if length != expected:
            raise ModelError(f"external data has {length} bytes but dtype and dims ask for {expected}", location=where)
        if location not in self._mapped:
            self._mapped[location] = self._map(location, where)
        data = self._mapped[location]
        if offset + length > len(data):
            raise ModelError(
                f"external data at {offset} with {length} bytes lies outside '{location}' of {len(data)} bytes",
                location=where,
                hint="the file is truncated or belongs to another model",
            )
        return data[offset : offset + length]

    def _map(self, location: str, where: str) -> memoryview:
        if self._folder is None:
            raise ModelError(
                f"its data are in '{location}', but the model came without a folder",
                location=where,
                hint="compile from the file instead of from bytes",
            )
        parts = _safe_parts(location, where)
        descriptor = self._open(parts, location, where)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ModelError(f"external data '{location}' is not a regular file", location=where, hint=_HINT)
            if status.st_nlink != 1:
                raise ModelError(f"external data '{location}' is a hard link to another file", location=where, hint=_HINT)
            if status.st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
        finally:
            os.close(descriptor)

    def _open(self, parts: list[str], location: str, where: str) -> int:
        assert self._folder is not None
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in parts[:-1]:
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                os.close(folder)
                folder = inner
            return os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        except FileNotFoundError:
            raise ModelError(
                f"external data '{location}' does not exist", location=where, hint="keep it beside the model"
            ) from None
        except OSError as error:
            raise ModelError(
                f"external data '{location}' cannot be opened: {error.strerror}", location=where, hint=_HINT
            ) from None
        finally:
            os.close(folder)


def external_locations(model: onnx.ModelProto) -> tuple[str, ...]:
    """The files that tensors of a model say their data are in, sorted; nothing is opened."""
    found: set[str] = set()
    waiting: list[Message] = [model]
    while waiting:
        message = waiting.pop()
        if isinstance(message, TensorProto):
            if message.data_location == TensorProto.EXTERNAL:
                found.update(entry.value for entry in message.external_data if entry.key == "location")
            continue
        for field, value in message.ListFields():
            if field.message_type is not None:
                waiting.extend(value if field.is_repeated else [value])
    return tuple(sorted(found))


def _safe_parts(location: str, where: str) -> list[str]:
    parts = location.split("/")
    unsafe = (
        not location
        or "\0" in location
        or "\\" in location
        or location.startswith("/")
        or any(part == ".." for part in parts)
        or ":" in parts[0]
    )
    if unsafe:
        raise ModelError(
            f"external data location {location!r} is not a relative path inside the model's folder",
            location=where,
            hint=_HINT,
        )
    kept = [part for part in parts if part not in ("", ".")]
    if not kept:
        raise ModelError(f"external data location {location!r} names no file", location=where, hint=_HINT)
    return kept


def _number(text: str, what: str, where: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        raise ModelError(f"external data has {what} {text!r}, which is no number of bytes", location=where)
    return int(text)
