"""How programs come in: ONNX files, bytes and messages become graphs; a file is mapped, never read whole."""

from .importer import import_model
from .limits import Limits
from .onnx_file import Source, capture, file_digest, file_digests, load_onnx, names_in_file

__all__ = ["Limits", "Source", "capture", "file_digest", "file_digests", "import_model", "load_onnx", "names_in_file"]
