"""What the forms ask of values and attributes; a fact that is not known is None or False."""

from __future__ import annotations

from irc.ir import DType, Op, TensorType, Value

MICROSOFT = "com.microsoft"


def dtype_of(value: Value | None) -> DType | None:
    """The element type of a tensor value."""
    return value.type.dtype if value is not None and isinstance(value.type, TensorType) else None


def static_dims(value: Value, *axes: int) -> tuple[int, ...] | None:
    """The sizes of some axes, where all of them are known numbers."""
    shape = value.shape
    if shape is None or any(not -len(shape) <= axis < len(shape) for axis in axes):
        return None
    sizes = tuple(shape[axis] for axis in axes)
    return tuple(size for size in sizes if isinstance(size, int)) if all(isinstance(size, int) for size in sizes) else None


def number(op: Op, name: str, default: float) -> float:
    """A float attribute, or `default` where it is not given."""
    value = op.attributes.get(name, default)
    assert isinstance(value, (int, float))
    return float(value)


def swaps_middle(op: Op | None) -> bool:
    """Whether an op is a Transpose of [B,S,H,D] to [B,H,S,D], which is also its own inverse."""
    return op is not None and op.is_a("Transpose") and op.integers("perm") == (0, 2, 1, 3)
