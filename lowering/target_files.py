"""Targets described in TOML files: strict, every key known, every value of its type, each mistake named by file and key."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn, TypeVar, cast

from irc.ir import UsageError, closest
from irc.runtime import BASELINE, FEATURES, Caches, Limits, in_order

from .processors import gpu_features
from .targets import Kind, Target, known_target

T = TypeVar("T")

ARCHITECTURES = tuple(BASELINE)
_UNITS = {"B": 0, "KiB": 10, "MiB": 20, "GiB": 30}
_MOST_BYTES = 1 << 50
_COMMON = ("like", "kind", "processor", "caches", "limits")
KEYS = {
    Kind.CPU: (*_COMMON, "architecture", "features", "cores"),
    Kind.CUDA: (*_COMMON, "compute-capability", "multiprocessors", "memory"),
}
"""The keys that a file for each kind of target may have."""


def read_target(path: Path, name: str) -> Target:
    """The target that a TOML file describes, called `name`. Raises UsageError naming file and key for whatever is wrong."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"there is no file '{path}'", hint="--target takes a name of `irc targets`, or a TOML file") from None
    except OSError as error:
        raise UsageError(f"cannot be read: {(error.strerror or str(error)).lower()}", location=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"is no TOML: {error}", location=str(path), hint="docs/targets.md shows one") from error
    return _Reader(path, "", values).target(name)


class _Reader:
    """A table of the file being taken apart; `prefix` is what stands in front of its keys in messages."""

    def __init__(self, path: Path, prefix: str, values: dict[str, object]) -> None:
        self._path, self._prefix, self._values = path, prefix, values

    def target(self, name: str) -> Target:
        base = self._base()
        self._only(KEYS[base.kind])
        processor = self._get("processor", _text, base.processor)
        caches = self._table("caches", lambda table: table.caches(base.caches), base.caches)
        limits = self._table("limits", lambda table: table.limits(base.limits or Limits()), base.limits)
        target = replace(base, name=name, processor=processor, caches=caches, limits=limits)
        return self._cpu(target) if base.kind is Kind.CPU else self._gpu(target)

    def caches(self, base: Caches) -> Caches:
        self._only(("l1d", "l2", "l3"))
        return Caches(*(self._get(key, _size, getattr(base, key)) for key in ("l1d", "l2", "l3")))

    def limits(self, base: Limits) -> Limits:
        self._only(("gflops", "bandwidth"))
        return Limits(self._get("gflops", _rate, base.gflops), self._get("bandwidth", _rate, base.bandwidth))

    def _base(self) -> Target:
        """The target that the file starts from."""
        like = self._get("like", _text, None)
        kind = self._get("kind", _kind, None)
        if like is None and kind is None:
            self._refuse("has neither kind nor like", 'begin it with kind = "cpu", or like = "cpu:avx2"')
        if like is not None:
            try:
                base = known_target(like)
            except UsageError as error:
                self._refuse(f"like: {error.message}", error.hint)
            if kind is not None and kind is not base.kind:
                self._refuse(f"kind is {kind}, but {like} is {base.kind}", "leave kind out")
            return base
        if kind is Kind.CUDA:
            return Target("", Kind.CUDA, "nvidia")
        architecture = self._get("architecture", _architecture, None)
        if architecture is None:
            self._refuse("has no architecture", f'add architecture = "x86-64"; there are {", ".join(ARCHITECTURES)}')
        return Target("", Kind.CPU, architecture, features=BASELINE[architecture])

    def _cpu(self, base: Target) -> Target:
        architecture = self._get("architecture", _architecture, base.architecture)
        if architecture != base.architecture:
            self._refuse(f"architecture is {architecture}, but {self._values['like']} is {base.architecture}", "leave it out")
        features = self._get("features", _features, base.features)
        features = in_order({*features, *BASELINE.get(architecture, ())})
        return replace(base, features=features, cores=self._get("cores", _count, base.cores))

    def _gpu(self, base: Target) -> Target:
        capability = self._get("compute-capability", _capability, base.compute_capability)
        return replace(
            base,
            compute_capability=capability,
            features=gpu_features(capability) if capability is not None else (),
            multiprocessors=self._get("multiprocessors", _count, base.multiprocessors),
            memory=self._get("memory", _size, base.memory),
        )

    def _get(self, key: str, read: Callable[[object], T], otherwise: T) -> T:
        if key not in self._values:
            return otherwise
        try:
            return read(self._values[key])
        except ValueError as error:
            self._refuse(f"{self._prefix}{key} should be {error}, not {_shown(self._values[key])}")

    def _table(self, key: str, read: Callable[[_Reader], T], otherwise: T) -> T:
        if key not in self._values:
            return otherwise
        value = self._values[key]
        if not isinstance(value, dict):
            self._refuse(f"{key} should be a table, not {_shown(value)}", f"write [{key}] and its keys below")
        return read(_Reader(self._path, f"{key}.", cast("dict[str, object]", value)))

    def _only(self, known: tuple[str, ...]) -> None:
        for key in self._values:
            if key not in known:
                hint = closest(key, list(known)) or f"there are {', '.join(known)}"
                self._refuse(f"has the unknown key {self._prefix}{key}", hint)

    def _refuse(self, message: str, hint: str | None = None) -> NoReturn:
        raise UsageError(message, location=str(self._path), hint=hint)


# What a value may be: each raises ValueError saying what it should be


def _text(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise ValueError("a text")


def _kind(value: object) -> Kind:
    if isinstance(value, str) and value in list(Kind):
        return Kind(value)
    raise ValueError(f"one of {', '.join(Kind)}")


def _architecture(value: object) -> str:
    if isinstance(value, str) and value in ARCHITECTURES:
        return value
    raise ValueError(f"one of {', '.join(ARCHITECTURES)}")


def _features(value: object) -> tuple[str, ...]:
    names = cast("list[object]", value) if isinstance(value, list) else [value]
    if isinstance(value, list) and all(name in FEATURES.values() for name in names):
        return tuple(map(str, names))
    raise ValueError(f"a list of {', '.join(FEATURES.values())}")


def _count(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 20:
        return value
    raise ValueError("a whole number from 1 on")


def _rate(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 and math.isfinite(value):
        return float(value)
    raise ValueError("a number above 0")


def _size(value: object) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(B|KiB|MiB|GiB)", value) if isinstance(value, str) else None
    count = float(match[1]) * (1 << _UNITS[match[2]]) if match else value
    if isinstance(count, int | float) and not isinstance(count, bool) and 0 < count <= _MOST_BYTES and count == int(count):
        return int(count)
    raise ValueError('a number of bytes, or a text such as "32 KiB"')


def _capability(value: object) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,2})\.(\d)", value) if isinstance(value, str) else None
    if match:
        return int(match[1]), int(match[2])
    raise ValueError('a text such as "9.0"')


def _shown(value: object) -> str:
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else text[:57] + "..."
