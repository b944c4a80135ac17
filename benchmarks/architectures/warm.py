"""Imported by the process that others are forked from: captures a layer once, so that none of them pays for the first time.

What it saves is the import of torch's tracer, its translations, and the reading of irc's rules.
"""

from __future__ import annotations

import torch

from .plain import perceptron
from .trial import compile_alone

torch.set_num_threads(1)
_architecture = perceptron()
_architecture.module.eval()
compile_alone("perceptron", _architecture)
