"""Activations, each in several ways."""

# pyright: basic
from __future__ import annotations

import numpy as np

from .sketch import MS, Sketch, Ways, normal, ways_of


def gelu(*shape: int) -> Ways:
    """x * (1 + erf(x / sqrt 2)) / 2"""
    return ways_of(
        {"x": normal(*shape)},
        written_out_without_GeluFusionL1__GeluFusionL2=lambda s: s(
            "Mul", s("Mul", "x", s.constant(0.5)), s("Add", s("Erf", s("Div", "x", s.constant(2**0.5))), s.constant(1.0))
        ),
        Gelu=lambda s: s("Gelu", "x"),
        Gelu_of_com_microsoft=lambda s: s("Gelu", "x", domain=MS),
    )


def bias_gelu(*shape: int) -> Ways:
    """Gelu(x + b)"""
    b = normal(shape[-1], seed=1)
    return ways_of(
        {"x": normal(*shape)},
        Add__Gelu_without_BiasGeluFusion=lambda s: s("Gelu", s("Add", "x", s.constant(b))),
        BiasGelu=lambda s: s("BiasGelu", "x", s.constant(b), domain=MS),
    )


def tanh_gelu(*shape: int) -> Ways:
    """x * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2"""

    def written(s: Sketch) -> str:
        cubed = s("Mul", s("Mul", s("Mul", "x", "x"), "x"), s.constant(0.044715))
        inner = s("Tanh", s("Mul", s("Add", "x", cubed), s.constant((2 / np.pi) ** 0.5)))
        return s("Mul", s("Mul", "x", s.constant(0.5)), s("Add", inner, s.constant(1.0)))

    return ways_of(
        {"x": normal(*shape)},
        written_out_without_FastGeluFusion=written,
        Gelu=lambda s: s("Gelu", "x", approximate="tanh"),
        FastGelu=lambda s: s("FastGelu", "x", domain=MS),
    )


def silu(*shape: int) -> Ways:
    """x * sigmoid(x)"""
    return ways_of(
        {"x": normal(*shape)},
        Sigmoid__Mul_without_QuickGeluFusion=lambda s: s("Mul", "x", s("Sigmoid", "x")),
        QuickGelu=lambda s: s("QuickGelu", "x", domain=MS, alpha=1.0),
        Swish=lambda s: s("Swish", "x"),
    )


def hard_swish(*shape: int) -> Ways:
    """x * min(max(x + 3, 0), 6) / 6"""
    return ways_of(
        {"x": normal(*shape)},
        HardSigmoid__Mul=lambda s: s("Mul", "x", s("HardSigmoid", "x", alpha=1 / 6, beta=0.5)),
        HardSwish=lambda s: s("HardSwish", "x"),
        Clip=lambda s: s(
            "Mul",
            s("Mul", "x", s.constant(1 / 6)),
            s("Clip", s("Add", "x", s.constant(3.0)), s.constant(0.0), s.constant(6.0)),
        ),
    )


def mish(*shape: int) -> Ways:
    """x * tanh(softplus(x)), which is x * n / (n + 2) with w = exp(min(x, 20)), n = w * (w + 2)"""

    def by_one_exp(s: Sketch) -> str:
        w = s("Exp", s("Min", "x", s.constant(20.0)))
        n = s("Mul", w, s("Add", w, s.constant(2.0)))
        return s("Mul", "x", s("Div", n, s("Add", n, s.constant(2.0))))

    return ways_of(
        {"x": normal(*shape)},
        Softplus__Tanh__Mul=lambda s: s("Mul", "x", s("Tanh", s("Softplus", "x"))),
        Mish=lambda s: s("Mish", "x"),
        by_one_Exp=by_one_exp,
    )
