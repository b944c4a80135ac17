"""The `.irc` format: a manifest and the files it lists, written whole or not at all, never used before all hashes hold.

Equal manifests and files make equal bytes. A file is read by mapping it, so weights cost no memory of their own; it
must not be changed in place while it is open (replacing it, as the writer does, is fine).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import mmap
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from .errors import ArtifactError
from .manifest import FileRecord, Manifest
from .scratch import folder_beside, temporary_beside
from .zip_store import MOST_ENTRIES, Buffer, add_file, check_name, read_entries

if TYPE_CHECKING:
    from concurrent.futures import Future

StrPath: TypeAlias = "str | os.PathLike[str]"

LARGEST_MANIFEST = 16 << 20
"""Bytes that a manifest may have."""
LARGEST_ARTIFACT = 1 << 40
"""Bytes that an artifact may have."""
_CANNOT_SHARE = (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM)


class Artifact:
    """An artifact whose hashes have been checked: its manifest, and its files as views of mapped memory."""

    def __init__(self, path: Path, manifest: Manifest, files: Mapping[str, memoryview]) -> None:
        self.path = path
        self.manifest = manifest
        self._files = dict(files)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the files, the manifest left out, in order."""
        return tuple(sorted(self._files))

    def read(self, name: str) -> memoryview:
        """A file's bytes, read-only and not copied; raises ArtifactError where there is none of that name."""
        if name not in self._files:
            raise ArtifactError(f"the artifact has no file {name}", location=str(self.path))
        return self._files[name]

    def forget_pages(self) -> None:
        """Let the system take back the memory of what was read; it is mapped again from the file where it is needed."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        for view in self._files.values():
            if isinstance(view.obj, mmap.mmap):
                view.obj.madvise(mmap.MADV_DONTNEED)


def write_artifact(path: StrPath, manifest: Manifest, files: Mapping[str, Sequence[Buffer]]) -> None:
    """Write an artifact as one file, replacing what is there.

    `files` maps names to chunks of bytes, which are streamed. Whatever goes wrong, `path` holds either what it held
    before or the whole artifact. Raises ArtifactError for a name that cannot be and for a disk that refuses.
    """
    target = Path(path)
    _check_names(files, target)
    with _speaking_of(target), temporary_beside(target) as (descriptor, temporary):
        with os.fdopen(descriptor, "w+b") as stream:
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
                with _digests(files) as digests:
                    records: dict[str, FileRecord] = {}
                    for name in sorted(files):
                        size = _size(files[name])
                        add_file(archive, name, _bytes(files[name]), size)
                        records[name] = FileRecord(digests[name].result(), size)
                text = dataclasses.replace(manifest, files=records).to_bytes()
                add_file(archive, Manifest.NAME, [text], len(text))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
        _sync_folder(target.parent)


def write_artifact_folder(path: StrPath, manifest: Manifest, files: Mapping[str, Sequence[Buffer]]) -> None:
    """Write an artifact as a folder, for looking inside; as `write_artifact`, except that `path` must not exist yet."""
    target = Path(path)
    _write_folder(target, manifest, files, os.fsync)
    _sync_folder(target.parent)


def write_passing_folder(path: StrPath, manifest: Manifest, files: Mapping[str, Sequence[Buffer]]) -> None:
    """As `write_artifact_folder`, for an artifact that another process reads now and nobody later: it need not reach a disk."""
    _write_folder(Path(path), manifest, files, lambda descriptor: None)


def _write_folder(
    target: Path, manifest: Manifest, files: Mapping[str, Sequence[Buffer]], settle: Callable[[int], None]
) -> None:
    _check_names(files, target)
    if target.exists():
        raise ArtifactError("there is something of that name already", location=str(target))
    with _speaking_of(target), folder_beside(target) as temporary:
        records: dict[str, FileRecord] = {}
        with _digests(files) as digests:
            for name in sorted(files):
                _write_file(temporary / name, _bytes(files[name]), settle)
                records[name] = FileRecord(digests[name].result(), _size(files[name]))
        _write_file(temporary / Manifest.NAME, iter([dataclasses.replace(manifest, files=records).to_bytes()]), settle)
        os.rename(temporary, target)


def copy_artifact(path: StrPath, place: StrPath) -> Artifact:
    """Open an artifact that is one file, and copy it to `place` while it is checked; only then it replaces what is there.

    The system does the copying, and shares the blocks where the file system can. Raises OSError where `path` cannot be opened,
    and ArtifactError for what is no whole artifact and for a disk that refuses; then `place` is as it was.
    """
    from concurrent.futures import ThreadPoolExecutor

    target = Path(place)
    with open(path, "rb") as source, _speaking_of(target), temporary_beside(target) as (descriptor, temporary):
        with os.fdopen(descriptor, "wb") as stream, ThreadPoolExecutor(1) as thread:
            checked = thread.submit(open_artifact, path)
            copy_bytes(source, stream)
            os.fsync(stream.fileno())
            artifact = checked.result()
        os.replace(temporary, target)
        _sync_folder(target.parent)
    return artifact


def copy_bytes(source: BinaryIO, target: BinaryIO) -> None:
    """Write all of a file to an empty one, in the system where it can. Raises OSError."""
    left = os.fstat(source.fileno()).st_size
    try:
        while left and (moved := os.copy_file_range(source.fileno(), target.fileno(), left)):
            left -= moved
    except (AttributeError, OSError) as error:  # another system, or two file systems that have nothing in common
        if isinstance(error, OSError) and error.errno not in _CANNOT_SHARE:
            raise
        source.seek(0)
        target.seek(0)
        shutil.copyfileobj(source, target, 1 << 20)
        target.flush()


def open_artifact(path: StrPath) -> Artifact:
    """Open an artifact, a file or a folder, and check all of it.

    Raises ArtifactError unless its form is exact, it holds the files its manifest lists and no other, and every
    SHA-256 is the one the manifest gives.
    """
    source = Path(path)
    location = str(source)
    try:
        files = _map_folder(source) if source.is_dir() else _map_archive(source)
    except OSError as error:
        raise ArtifactError(f"cannot be read: {_reason(error)}", location=location) from error
    text = files.pop(Manifest.NAME, None)
    if text is None:
        raise ArtifactError("there is no manifest.json in it, so it is not an artifact", location=location)
    if len(text) > LARGEST_MANIFEST:
        raise ArtifactError("the manifest is larger than a manifest can be", location=location)
    manifest = Manifest.from_bytes(bytes(text), location)
    _check_files(manifest, files, location)
    return Artifact(source, manifest, files)


# Writing


def _check_names(files: Mapping[str, Sequence[Buffer]], target: Path) -> None:
    if not target.name or target.name == "..":
        raise ArtifactError("this is a folder, not the name of a file", location=str(target), hint="name it model.irc")
    for name in files:
        check_name(name, str(target))
    if Manifest.NAME in files:
        raise ArtifactError("manifest.json is written from the manifest, not given as a file", location=str(target))


@contextlib.contextmanager
def _speaking_of(target: Path) -> Generator[None]:
    """Turn the system's errors into ours."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"cannot be written: {_reason(error)}", location=str(target)) from error


@contextlib.contextmanager
def _digests(files: Mapping[str, Sequence[Buffer]]) -> Generator[Mapping[str, Future[str]]]:
    """The SHA-256 of each file, found beside the writing: on a second core it costs no time."""
    from concurrent.futures import ThreadPoolExecutor  # for writing only: reading an artifact does without

    with ThreadPoolExecutor(1) as thread:
        try:
            yield {name: thread.submit(_digest, files[name]) for name in sorted(files)}
        finally:
            thread.shutdown(cancel_futures=True)


def _digest(chunks: Sequence[Buffer]) -> str:
    digest = hashlib.sha256()
    for chunk in _bytes(chunks):
        digest.update(chunk)
    return digest.hexdigest()


def _bytes(chunks: Sequence[Buffer]) -> Iterator[memoryview]:
    for chunk in chunks:
        yield memoryview(chunk).cast("B") if len(chunk) else memoryview(b"")


def _size(chunks: Sequence[Buffer]) -> int:
    return sum(chunk.nbytes if isinstance(chunk, memoryview) else len(chunk) for chunk in chunks)


def _write_file(path: Path, chunks: Iterator[Buffer], settle: Callable[[int], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as stream:
        for chunk in chunks:
            stream.write(chunk)
        stream.flush()
        settle(stream.fileno())


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some systems cannot open a folder; there the rename itself has to do
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# Reading


def _map_archive(path: Path) -> dict[str, memoryview]:
    data = _map_file(path)
    location = str(path)
    entries = read_entries(data, location)
    files = {name: data[each.offset : each.offset + each.size] for name, each in entries.items()}
    # The manifest has no hash but this: it catches accidents. Whoever can change a manifest can change any hash in it.
    if Manifest.NAME in entries and zlib.crc32(files[Manifest.NAME]) != entries[Manifest.NAME].crc:
        raise ArtifactError("the manifest is damaged", location=location)
    return files


def _map_folder(folder: Path) -> dict[str, memoryview]:
    files: dict[str, memoryview] = {}
    waiting = [(folder, "")]
    while waiting:
        here, prefix = waiting.pop()
        with os.scandir(here) as entries:
            for entry in entries:
                name = prefix + entry.name
                check_name(name, str(folder))
                if entry.is_symlink():
                    raise ArtifactError(f"{name} is a link", location=str(folder))
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((Path(entry.path), name + "/"))
                else:
                    files[name] = _map_file(Path(entry.path))
                if len(files) + len(waiting) > MOST_ENTRIES:
                    raise ArtifactError("there are more files than an artifact can have", location=str(folder))
    return files


def _map_file(path: Path) -> memoryview:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError("it is not a plain file", location=str(path))
        if status.st_size > LARGEST_ARTIFACT:
            raise ArtifactError("it is larger than an artifact can be", location=str(path))
        if status.st_size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    finally:
        os.close(descriptor)


def _check_files(manifest: Manifest, files: Mapping[str, memoryview], location: str) -> None:
    for name in sorted(files.keys() ^ manifest.files.keys()):
        reason = "is not listed in the manifest" if name in files else "is listed in the manifest but not there"
        raise ArtifactError(f"{name} {reason}", location=location)
    for name, record in manifest.files.items():
        if len(files[name]) != record.bytes or hashlib.sha256(files[name]).hexdigest() != record.sha256:
            hint = "it was damaged or changed; get or compile the artifact again"
            raise ArtifactError(f"{name} is not the file that was written", location=location, hint=hint)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def is_artifact(path: StrPath) -> bool:
    """Whether a path looks like an artifact: a folder with a manifest, a zip file, or whatever is called `.irc`.

    False for a path that does not exist.
    """
    place = Path(path)
    if place.is_dir():
        return place.suffix == ".irc" or (place / Manifest.NAME).is_file()
    if not place.is_file():
        return False
    with place.open("rb") as file:
        return file.read(2) == b"PK" or place.suffix == ".irc"
