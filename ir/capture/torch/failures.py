"""What torch.export says when it gives up, as one sentence with the user's line and a way out."""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

import contextlib
import io
import logging
import re
import traceback
import warnings
from collections.abc import Generator

from ...diagnostics import IrcError, UnsupportedError, UsageError
from ...location import SourceOrigin
from .locations import is_library, shown_path

_ADVICE = (
    (
        "data-dependent",
        "its control flow or shapes depend on values; rewrite it with torch.where, torch.cond or torch._check, "
        "or leave that part outside of the module",
    ),
    ("Constraints violated", "leave the dim out of dynamic_shapes, or give it the range or the relation torch asks for"),
    ("fake tensor", "make the tensors in the forward of the module, or register them as buffers"),
    ("graph break", "rewrite this line so that torch.export can trace it"),
)


def refusal(error: Exception) -> IrcError:
    """The error to raise for what torch.export or the user's own code raised while it was traced."""
    if isinstance(error, IrcError):
        return error
    message = _sentence(error)
    hint = next((advice for sign, advice in _ADVICE if sign.lower() in str(error).lower()), None)
    location = user_line(error)
    if isinstance(error, TypeError) and "argument" in message and location is None:
        return UsageError(f"the module cannot be called with these inputs: {message}", hint="check args and kwargs")
    name = type(error).__name__
    hint = hint or "call the module with the example inputs first; if that works, torch.export cannot trace it"
    return UnsupportedError(f"torch.export cannot capture this: {name}: {message}", location=location, hint=hint)


def user_line(error: BaseException) -> str | None:
    """The innermost line of the user's own code that an error passed through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not is_library(frame.filename)]
    if not frames or frames[-1].lineno is None:
        return None
    return SourceOrigin(shown_path(frames[-1].filename), frames[-1].lineno).text


def _sentence(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    if text.startswith("Constraints violated") and len(lines) > 1:
        details = [line.removeprefix("- ") for line in lines[1:] if line.startswith("- ")]
        text = f"{text.split('!')[0]}: {'; '.join(details)}" if details else text
    text = re.sub(r"\s*\(?For more information.*|\s*\(Size-like symbols.*", "", text).strip(" .")
    return text if len(text) <= 400 else text[:400] + "…"


@contextlib.contextmanager
def quiet() -> Generator[list[warnings.WarningMessage]]:
    """Run a block without what torch prints: when it fails, partial graphs of hundreds of lines. Yields its warnings."""
    handlers = [handler for name in ("torch", "torch.onnx", "onnxscript") for handler in logging.getLogger(name).handlers]
    for handler in handlers:
        handler.addFilter(_nothing)
    try:
        with warnings.catch_warnings(record=True) as heard, contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("always")
            yield heard
    finally:
        for handler in handlers:
            handler.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False
