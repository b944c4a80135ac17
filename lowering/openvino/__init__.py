"""OpenVINO as an engine: which ops its CPU plugin computes as ONNX means them, and graphs as the IR files it loads."""

from .engine import OpenVino

__all__ = ["OpenVino"]
