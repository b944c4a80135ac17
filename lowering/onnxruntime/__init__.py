"""ONNX Runtime as an engine: which ops its CPU kernels take, and graphs as the ONNX models it loads."""

from .engine import OnnxRuntime
from .package import GPU, Package, install_gpu, package, read_package
from .providers import check_providers

__all__ = ["GPU", "OnnxRuntime", "Package", "check_providers", "install_gpu", "package", "read_package"]
