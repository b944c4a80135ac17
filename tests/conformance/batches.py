"""Programs of our own kernels by the thousand: the kernels of all models are built together, into one library.

What would take a second a model, building a few kernels and calling the compiler, takes a minute for all of onnx's node cases.
All else is what it is for a user: a model is compiled by the same door, and a program finds its kernels by their names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest

import irc
from irc.lowering import find_target
from irc.lowering.targets import Target
from irc.lowering.tvm import program
from irc.lowering.tvm.building import llvm_target
from irc.lowering.tvm.kernel import Kernel

Compile = Callable[[], irc.Program]


@contextmanager
def built_together(models: Sequence[Compile]) -> Iterator[None]:
    """While it lasts, programs of these models are linked from kernels that have been built, all of them in one library."""
    kernels = _kernels(models)
    target = find_target("cpu")
    built = program.objects(kernels, target, os.cpu_count() or 1)
    library = program.link(list(built.values()), llvm_target(target).triple)

    def objects(own: Iterable[Kernel], target: Target, jobs: int, deadline: float) -> dict[str, bytes]:
        return {each.name: built[each.name] for each in own}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "objects", objects)
        patch.setattr(program, "link", lambda objects, triple: library)
        yield


def _kernels(models: Iterable[Compile]) -> Sequence[Kernel]:
    """The kernels that the programs of these models have."""
    found: dict[str, Kernel] = {}

    def objects(own: Iterable[Kernel], target: Target, jobs: int, deadline: float) -> dict[str, bytes]:
        found.update((each.name, each) for each in own)
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "objects", objects)
        patch.setattr(program, "link", lambda objects, triple: b"")
        for model in models:
            with suppress(irc.IrcError, irc.RunError):  # an empty library is refused where it is to be loaded
                model().close()
    return list(found.values())
