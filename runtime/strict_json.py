"""Reading JSON from a file nobody vouches for: fields are asked for by name and type, and what is left is an error."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import NoReturn, TypeAlias, TypeVar

from .errors import ArtifactError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
T = TypeVar("T")


def parse_object(data: bytes, location: str) -> Fields:
    """The fields of a JSON object in UTF-8; raises ArtifactError for anything else, duplicate keys and NaN included."""
    try:
        value: Json = json.loads(data.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
    except RecursionError as error:
        raise ArtifactError("is nested too deeply", location=location) from error
    except ValueError as error:
        raise ArtifactError(f"is not the JSON it should be: {error}", location=location) from error
    return Fields(value, location)


def canonical(value: Json) -> bytes:
    """The one way we write a JSON value: sorted keys, two spaces, UTF-8, a line end."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


class Fields:
    """A JSON object being taken apart; `finish` refuses whatever was not taken."""

    def __init__(self, value: Json, location: str) -> None:
        if not isinstance(value, dict):
            raise ArtifactError(f"should be an object, not {_kind(value)}", location=location)
        self._rest = dict(value)
        self._location = location

    def text(self, name: str) -> str:
        """A string."""
        value = self._take(name)
        return value if isinstance(value, str) else self._refuse(name, "a string", value)

    def optional_text(self, name: str) -> str | None:
        """A string, or None where it is null or missing."""
        return self.text(name) if self._rest.get(name) is not None else self._skip(name)

    def natural(self, name: str) -> int:
        """An integer that is not negative."""
        value = self._take(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        return self._refuse(name, "an integer that is not negative", value)

    def optional_number(self, name: str) -> float | None:
        """A finite number, or None where it is null or missing."""
        value = self._rest.pop(name, None)
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        return self._refuse(name, "a finite number", value)

    def flag(self, name: str) -> bool:
        """A boolean; a missing one is false."""
        value = self._rest.pop(name, False)
        return value if isinstance(value, bool) else self._refuse(name, "true or false", value)

    def value(self, name: str) -> Json:
        """Whatever stands there."""
        return self._take(name)

    def objects(self, name: str, read: Callable[[Fields], T]) -> tuple[T, ...]:
        """A list of objects, each taken apart by `read`."""
        value = self._take(name)
        items = value if isinstance(value, list) else self._refuse(name, "a list", value)
        return tuple(self._inside(item, f"{name}[{index}]", read) for index, item in enumerate(items))

    def optional_object(self, name: str, read: Callable[[Fields], T]) -> T | None:
        """An object taken apart by `read`, or None where it is null or missing."""
        value = self._rest.pop(name, None)
        return None if value is None else self._inside(value, name, read)

    def table(self, name: str, read: Callable[[Fields], T]) -> dict[str, T]:
        """An object whose values are objects, each taken apart by `read`."""
        value = self._take(name)
        items = value if isinstance(value, dict) else self._refuse(name, "an object", value)
        return {key: self._inside(item, f"{name}.{key}", read) for key, item in items.items()}

    def values(self, name: str) -> Mapping[str, Json]:
        """An object, with values of any kind."""
        value = self._take(name)
        return value if isinstance(value, dict) else self._refuse(name, "an object", value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self._take(name)
        items = value if isinstance(value, list) else self._refuse(name, "a list of strings", value)
        return tuple(item if isinstance(item, str) else self._refuse(name, "a list of strings", item) for item in items)

    def naturals(self, name: str) -> tuple[int, ...]:
        """A list of integers that are not negative."""
        value = self._take(name)
        items = value if isinstance(value, list) else self._refuse(name, "a list of integers", value)
        numbers = tuple(item for item in items if isinstance(item, int) and not isinstance(item, bool) and item >= 0)
        return numbers if len(numbers) == len(items) else self._refuse(name, "a list of integers", value)

    def rest(self) -> dict[str, Json]:
        """Everything not taken yet, for objects whose keys are names."""
        rest, self._rest = self._rest, {}
        return rest

    def finish(self) -> None:
        """Refuse the fields that nobody asked for."""
        if self._rest:
            raise ArtifactError(f"has the unknown key {min(self._rest)}", location=self._location)

    def refuse(self, reason: str) -> ArtifactError:
        """An error about this object as a whole."""
        return ArtifactError(reason, location=self._location)

    def _inside(self, value: Json, name: str, read: Callable[[Fields], T]) -> T:
        fields = Fields(value, f"{self._location}: {name}")
        result = read(fields)
        fields.finish()
        return result

    def _take(self, name: str) -> Json:
        if name not in self._rest:
            raise ArtifactError(f"lacks the key {name}", location=self._location)
        return self._rest.pop(name)

    def _skip(self, name: str) -> None:
        self._rest.pop(name, None)

    def _refuse(self, name: str, wanted: str, value: Json) -> NoReturn:
        raise ArtifactError(f"{name} should be {wanted}, not {_kind(value)}", location=self._location)


def _kind(value: Json) -> str:
    match value:
        case None:
            return "null"
        case dict():
            return "an object"
        case list():
            return "a list"
        case _:
            text = json.dumps(value)
            return text if len(text) <= 40 else text[:37] + "..."


def _no_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _no_constants(name: str) -> float:
    raise ValueError(f"{name} is no number")
