"""What an op computes, apart from the values it takes and makes: an operator, its opset, and its attributes.

Law: reading an attribute changes nothing; one that is not given is read as the default that its reader names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from .tensors import SparseTensor, Tensor
from .types import Type

if TYPE_CHECKING:
    from .graph import Graph


@dataclass(frozen=True, slots=True)
class EmptyList:
    """An attribute that is a list without elements; the kind is kept because nothing else would tell it."""

    kind: str


Scalar: TypeAlias = "int | float | str | bytes | Tensor | SparseTensor | Graph | Type"
Attribute: TypeAlias = "Scalar | tuple[Scalar, ...] | EmptyList"

CONSTANT = "Constant"


class Operator:
    """An operator with its attributes; `domain` is "" for ONNX's own operator set.

    `version` is None when the canonical opset defines the operator; otherwise the opset that does.
    """

    __slots__ = ("attributes", "domain", "name", "version")

    def __init__(self, name: str, attributes: Mapping[str, Attribute], domain: str = "", version: int | None = None) -> None:
        self.domain = domain
        self.name = name
        self.version = version
        self.attributes: dict[str, Attribute] = dict(attributes)

    @property
    def qualified_name(self) -> str:
        """`Conv`, or `com.microsoft::Gelu` outside ONNX's own domain, with the opset where it is not the canonical one."""
        if not self.domain and self.version is None:
            return self.name
        if self.version is not None:
            return f"{self.domain or 'ai.onnx'}@{self.version}::{self.name}"
        return f"{self.domain}::{self.name}"

    def is_a(self, *names: str) -> bool:
        """Whether this is one of these ops of ONNX's own domain at the canonical opset."""
        return self.name in names and not self.domain and self.version is None

    @property
    def is_constant(self) -> bool:
        """Whether this op is a dense constant."""
        return self.name == CONSTANT and not self.domain and "value" in self.attributes

    @property
    def value(self) -> Tensor:
        """The tensor of a constant op."""
        tensor = self.attributes["value"]
        assert isinstance(tensor, Tensor)
        return tensor

    def integer(self, name: str, default: int) -> int:
        """An int attribute, or `default` where it is not given."""
        value = self.attributes.get(name, default)
        assert isinstance(value, int)
        return value

    def string(self, name: str, default: str) -> str:
        """A string attribute, or `default` where it is not given."""
        value = self.attributes.get(name, default)
        if isinstance(value, bytes):  # no UTF-8, so nothing an op knows
            return value.decode(errors="replace")
        assert isinstance(value, str)
        return value

    def integers(self, name: str) -> tuple[int, ...] | None:
        """A list-of-int attribute, or None where it is not given."""
        value = self.attributes.get(name)
        if isinstance(value, EmptyList):
            return ()
        return tuple([v for v in value if isinstance(v, int)]) if isinstance(value, tuple) else None
