"""Kernels for NVIDIA GPUs, from TVM's own schedules, compiled by NVRTC."""

from .legality import why_not
from .nvrtc import OLDEST
from .nvrtc import why_not as why_not_compiled
from .program import lower

__all__ = ["OLDEST", "lower", "why_not", "why_not_compiled"]
