# pyright: basic
"""Regenerates the corpus: `python -m tests.spellings.generate [NAME ...]` from the root of the repository, with torch installed.

It needs the extra `torch` (torch 2.13, onnxscript) and transformers; NAME is a part of a case's name. Keras, tf2onnx and
PaddlePaddle want environments of their own: see `keras_cases.py` and `paddle_cases.py`, which only export, and
`python -m tests.spellings.generate --onnx FOLDER`, which makes files of what they left there. Files in `written/` are their
own source. No test runs this.
"""

from __future__ import annotations

import sys

from . import import_cases

if __name__ == "__main__":
    import_cases(sys.argv[1:])
