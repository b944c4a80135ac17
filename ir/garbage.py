"""Memory that nobody needs: the cycle collector, paused while graphs are built, and free pages of the heap, given back.

The collector would walk the whole graph again and again and free nothing.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Generator[None]:
    """Run a block without the cycle collector; nested and repeated use is fine, and an outer pause stays in force."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def trim_heap() -> None:
    """Give free pages of the C heap back to the system, where that is glibc, which keeps what was freed for later."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
