"""Which ops give an element the same bits wherever in a tensor it stands.

Kernels take elements many at a time and the last few one by one; what IEEE 754 rounds correctly, or what does not compute at
all, is the same either way. Exp or Tanh need not be.
"""

from __future__ import annotations

_NAMES = (
    "Abs Add And BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Clip Div Equal Floor Greater GreaterOrEqual"
    " Identity IsInf IsNaN LeakyRelu Less LessOrEqual Max Min Mod Mul Neg Not Or PRelu Relu Round Sign Sqrt Sub Where Xor"
)
CORRECTLY_ROUNDED = frozenset(_NAMES.split())
