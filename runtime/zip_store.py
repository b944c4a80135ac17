"""A ZIP archive that only stores: written aligned, so that its files can be mapped, and read by its strictest reading.

What the reader accepts is what the writer makes: entries one after another, no gap between them, nothing before the
first or after the last, names in ASCII that stay inside, no compression, no encryption, no links, no comments.
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .errors import ArtifactError

Buffer: TypeAlias = "bytes | memoryview"

ALIGNMENT = 4096
"""Where the data of every file begins: at a multiple of this many bytes, a page."""
MOST_ENTRIES = 4096
LONGEST_NAME = 255

_PADDING_ID = 0xD935  # the field that Android's zipalign uses for the same purpose
_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_END64, _LOCATOR64 = b"PK\x06\x06", b"PK\x06\x07"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*\Z")
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF


def check_name(name: str, location: str) -> None:
    """Raise ArtifactError unless the name is a plain relative path: ASCII, forward slashes, no `..`."""
    if len(name) > LONGEST_NAME or not _NAME.match(name) or ".." in name.split("/"):
        raise ArtifactError(f"{name[:60]!r} is not a name that a file of an artifact can have", location=location)


def add_file(archive: zipfile.ZipFile, name: str, chunks: Iterable[Buffer], size: int) -> None:
    """Stream chunks of `size` bytes in total into a new entry whose data begin at a multiple of ALIGNMENT."""
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system = 3
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    wide = size >= zipfile.ZIP64_LIMIT
    stream = archive.fp
    assert stream is not None
    begin = stream.tell() + 30 + len(name) + (20 if wide else 0)  # zipfile puts the sizes in front, where they are wide
    gap = -begin % ALIGNMENT
    if 0 < gap < 4:
        gap += ALIGNMENT
    if gap:
        info.extra = struct.pack("<HH", _PADDING_ID, gap - 4) + bytes(gap - 4)
    with archive.open(info, "w", force_zip64=wide) as entry:
        for chunk in chunks:
            entry.write(chunk)


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the data of one file lie in the archive, in bytes, and their CRC-32."""

    name: str
    offset: int
    size: int
    crc: int


def read_entries(data: memoryview, location: str) -> dict[str, Entry]:
    """The files of an archive, by name; raises ArtifactError unless it is exactly of the form this module writes."""
    try:
        return _read_entries(data, location)
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise ArtifactError("the archive is damaged", location=location) from error


def _read_entries(data: memoryview, location: str) -> dict[str, Entry]:
    count, size, offset, end = _read_end(data, location)
    if count > MOST_ENTRIES or offset + size != end:
        raise ArtifactError("the archive is damaged", location=location, hint="its table of contents does not fit")
    entries: dict[str, Entry] = {}
    position, expected = offset, 0
    for _ in range(count):
        position, entry, header = _read_central(data, position, location)
        if entry.name in entries:
            raise ArtifactError(f"{entry.name} occurs twice", location=location)
        if header != expected:
            raise ArtifactError(f"there are bytes in front of {entry.name} that belong to no file", location=location)
        entry = _read_local(data, entry, header, offset, location)
        entries[entry.name] = entry
        expected = entry.offset + entry.size
    if position != end or expected != offset:
        raise ArtifactError("there are bytes that belong to no file", location=location)
    return entries


def _read_end(data: memoryview, location: str) -> tuple[int, int, int, int]:
    """Number of entries, size and offset of the table of contents, and the offset of what follows it."""
    end = len(data) - 22
    if end < 0 or bytes(data[end : end + 4]) != _END:
        hint = "the file is cut short, or was never an artifact"
        raise ArtifactError("this is not an artifact", location=location, hint=hint)
    disk, other, here, count, size, offset, comment = struct.unpack_from("<HHHHIIH", data, end + 4)
    if disk or other or comment or here != count:
        raise ArtifactError("the archive is in parts or has a comment", location=location)
    # From 2 GiB on there is a wide record too, though the narrow one can say everything up to 4 GiB.
    narrow = offset != _FULL32 and size != _FULL32 and count != _FULL16
    if narrow and (end < 20 or bytes(data[end - 20 : end - 16]) != _LOCATOR64 or offset + size == end):
        return count, size, offset, end
    magic, _, end64, _ = struct.unpack_from("<4sIQI", data, end - 20)
    if magic != _LOCATOR64 or end64 != end - 76 or bytes(data[end64 : end64 + 4]) != _END64:
        raise ArtifactError("the archive is damaged", location=location)
    count, size, offset = struct.unpack_from("<QQQ", data, end64 + 32)
    return count, size, offset, end64


def _read_central(data: memoryview, position: int, location: str) -> tuple[int, Entry, int]:
    """The offset of the next record, this record's entry with its data not yet found, and its local header's offset."""
    fields: Sequence[int] = struct.unpack_from("<HHHHHHIIIHHHHHII", data, position + 4)
    _, _, flags, method, _, _, crc, packed, size, name_size, extra_size, comment, _, _, attributes, header = fields
    if bytes(data[position : position + 4]) != _CENTRAL or comment:
        raise ArtifactError("the archive is damaged", location=location)
    begin = position + 46
    name = bytes(data[begin : begin + name_size]).decode("ascii", "backslashreplace")
    check_name(name, location)
    extra = data[begin + name_size : begin + name_size + extra_size]
    size, packed, header = _widen(extra, (size, packed, header))
    if flags & 1:
        raise ArtifactError(f"{name} is encrypted", location=location)
    if method != zipfile.ZIP_STORED or packed != size:
        raise ArtifactError(f"{name} is compressed, but an artifact's files are stored as they are", location=location)
    kind = stat.S_IFMT(attributes >> 16)
    if kind not in (0, stat.S_IFREG) or flags:
        raise ArtifactError(f"{name} is not a plain file", location=location)
    return begin + name_size + extra_size, Entry(name, 0, size, crc), header


def _widen(extra: memoryview, values: tuple[int, int, int]) -> tuple[int, int, int]:
    """Size, packed size and offset, each replaced by its 64-bit form where the 32-bit one is full."""
    position = 0
    while position + 4 <= len(extra):
        identifier, length = struct.unpack_from("<HH", extra, position)
        if identifier == 1:
            wide = [struct.unpack_from("<Q", extra, position + 4 + 8 * index)[0] for index in range(length // 8)]
            size, packed, offset = (wide.pop(0) if value == _FULL32 else value for value in values)
            return size, packed, offset
        position += 4 + length
    return values


def _read_local(data: memoryview, entry: Entry, header: int, limit: int, location: str) -> Entry:
    """The entry with the offset of its data, which have to end before `limit`."""
    magic, _, flags, method = struct.unpack_from("<4sHHH", data, header)
    name_size, extra_size = struct.unpack_from("<HH", data, header + 26)
    name = bytes(data[header + 30 : header + 30 + name_size])
    begin = header + 30 + name_size + extra_size
    if magic != _LOCAL or flags or method != zipfile.ZIP_STORED or name != entry.name.encode():
        raise ArtifactError(f"{entry.name} is not what the table of contents says", location=location)
    if begin + entry.size > limit:
        raise ArtifactError(f"{entry.name} is cut short", location=location)
    return Entry(entry.name, begin, entry.size, entry.crc)
