"""The CUDA C of a few ops, and how it is launched: `Code.from_bytes(code.to_bytes())` is the code."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from irc.runtime import Fields, Json, canonical, parse_object

Three = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of so many bytes; a constant's has a content."""

    byte_count: int
    content: bytes | None = None

    def to_json(self) -> Json:
        """As JSON."""
        content = None if self.content is None else base64.b64encode(self.content).decode()
        return {"bytes": self.byte_count, "content": content}

    @staticmethod
    def from_json(fields: Fields) -> Buffer:
        """From JSON; raises ArtifactError where it is none."""
        count, text = fields.natural("bytes"), fields.optional_text("content")
        try:
            return Buffer(count, None if text is None else base64.b64decode(text, validate=True))
        except binascii.Error as error:
            raise fields.refuse(f"content is no base64: {error}") from error


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel launched once: how many blocks of how many threads, and the numbers of the buffers whose addresses it gets."""

    kernel: str
    grid: Three
    block: Three
    arguments: tuple[int, ...]

    def to_json(self) -> Json:
        """As JSON."""
        numbers = list[Json]([*self.grid, *self.block])
        return {"kernel": self.kernel, "extents": numbers, "arguments": list[Json](self.arguments)}

    @staticmethod
    def from_json(fields: Fields) -> Launch:
        """From JSON; raises ArtifactError where it is none."""
        kernel, extents = fields.text("kernel"), fields.naturals("extents")
        if len(extents) != 6:
            raise fields.refuse("extents should be six numbers")
        x, y, z, a, b, c = extents
        return Launch(kernel, (x, y, z), (a, b, c), fields.naturals("arguments"))


@dataclass(frozen=True, slots=True)
class Code:
    """Kernels, `buffers` of which the inputs are first, launches in order, and the numbers of the outputs' buffers."""

    source: str
    buffers: tuple[Buffer, ...]
    launches: tuple[Launch, ...]
    outputs: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """As JSON; equal codes have equal bytes."""
        return canonical(
            {
                "source": self.source,
                "buffers": [each.to_json() for each in self.buffers],
                "launches": [each.to_json() for each in self.launches],
                "outputs": list[Json](self.outputs),
            }
        )

    @staticmethod
    def from_bytes(data: bytes) -> Code:
        """The code in `to_bytes`; raises ArtifactError where it is none."""
        fields = parse_object(data, "the code of kernels")
        code = Code(
            fields.text("source"),
            fields.objects("buffers", Buffer.from_json),
            fields.objects("launches", Launch.from_json),
            fields.naturals("outputs"),
        )
        fields.finish()
        return code
