"""What the tests of whole programs share."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from irc.lowering.tvm import program

from .programs import objects_here


@pytest.fixture(scope="module")
def in_this_process() -> Iterable[None]:
    """Kernels are built here: processes and the cache have tests of their own, and cost seconds a program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "objects", objects_here)
        yield
