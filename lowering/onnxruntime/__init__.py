"""ONNX Runtime as an engine: which ops its CPU kernels take, and graphs as the ONNX models it loads."""

from .engine import OnnxRuntime

__all__ = ["OnnxRuntime"]
