"""What a file is, told by its first bytes and not by its name: an artifact, a model, or IR as text."""

from __future__ import annotations

from pathlib import Path


def is_artifact(path: Path) -> bool:
    """Whether a path is to be opened as an artifact; otherwise it is a model to compile.

    A damaged `.irc` is still an artifact: opening it says what is wrong. Raises UsageError where there is no file, and for IR
    as text.
    """
    from irc.ir import UsageError
    from irc.runtime import is_artifact as looks_like_artifact

    from .factories import is_torch_model

    if is_torch_model(path):
        return False
    if not path.exists():
        raise UsageError(f"there is no file '{path}'", hint="check the path; `irc compile model.onnx` makes an artifact")
    if looks_like_artifact(path) or not path.is_file():
        return looks_like_artifact(path)
    refuse_text(path)
    return False


def refuse_text(path: Path) -> None:
    """Refuse IR as text, which no verb reads. Raises UsageError."""
    from irc.ir import UsageError

    if not path.is_file():
        return
    with path.open("rb") as file:
        head = file.read(64).lstrip()
    if head.startswith((b"graph @", b"// ")):
        raise UsageError(f"'{path}' is IR as text", hint="read it in Python with irc.ir.text.parse_graph")
