"""What the tests of kernels for GPUs share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .emulating import emulated


@pytest.fixture(scope="module")
def gpu_here() -> Iterator[Any]:
    """A GPU that is a CPU."""
    with emulated() as driver:
        yield driver
