"""The cycle collector, paused while graphs are built: it would walk the whole graph again and again and free nothing."""

from __future__ import annotations

import gc
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
