"""Kernels of our own, generated through TVM."""

from .building import llvm_target
from .engine import Tvm
from .linking import compiler

__all__ = ["Tvm", "compiler", "llvm_target"]
