# pyright: basic
"""Regenerates the corpus: `python -m tests.spellings.generate [NAME ...]` from the root of the repository, with torch.

It needs the extra `torch` (torch 2.13, onnxscript) and transformers; NAME is a part of a case's name. Keras, tf2onnx and
PaddlePaddle want environments of their own and have their own commands: `keras_cases.py`, `paddle_cases.py`. What another
source spells the same already is not written again. Files in `written/` are their own source. No test runs this.
"""

from __future__ import annotations

import sys

from . import import_cases

if __name__ == "__main__":
    import_cases(sys.argv[1:])
