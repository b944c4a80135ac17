"""Memory that was freed, given back to the system while something large is made, where the heap would keep it for later."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

SECONDS = 0.005
"""Between two trims; with four times as many the peak of a session of resnet50 is 0.1 of its weights higher."""


@contextmanager
def trimmed_heap(forget: Callable[[], None]) -> Generator[None]:
    """Give free pages of the C heap back again and again while the block runs, where that is glibc, and call `forget`.

    glibc has a block of some MiB from the system and for itself only until it has once freed one as large. From then on
    they lie in the heap, where what is freed between others stays with the process.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is None:
        yield
        forget()
        return
    done = threading.Event()

    def run() -> None:
        while not done.wait(SECONDS):
            trim(0)
            forget()

    thread = threading.Thread(target=run, name="irc-trimmed-heap", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        trim(0)
        forget()


__all__ = ["trimmed_heap"]
