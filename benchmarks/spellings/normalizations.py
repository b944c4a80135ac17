"""Normalizations, each in several ways."""

# pyright: basic
from __future__ import annotations

import numpy as np

from .sketch import MS, Sketch, Ways, normal, ways_of


def layer_norm(*shape: int) -> Ways:
    """One alone."""
    g, b = normal(shape[-1], seed=1), normal(shape[-1], seed=2)

    def written(s: Sketch) -> str:
        centred = s("Sub", "x", s("ReduceMean", "x", s.constant([-1], np.int64)))
        variance = s("ReduceMean", s("Mul", centred, centred), s.constant([-1], np.int64))
        root = s("Sqrt", s("Add", variance, s.constant(1e-5)))
        return s("Add", s("Mul", s("Div", centred, root), s.constant(g)), s.constant(b))

    return ways_of(
        {"x": normal(*shape)},
        written_out_without_LayerNormFusionL1__LayerNormFusionL2=written,
        LayerNormalization=lambda s: s("LayerNormalization", "x", s.constant(g), s.constant(b)),
    )


def skip_layer_norm(*shape: int, bias: bool = False) -> Ways:
    """The norm of a sum, and the sum."""
    g, b, c = normal(shape[-1], seed=1), normal(shape[-1], seed=2), normal(shape[-1], seed=3)

    def apart(s: Sketch) -> tuple[str, str]:
        total = s("Add", s("Add", "x", s.constant(c)) if bias else "x", "y")
        return s("LayerNormalization", total, s.constant(g), s.constant(b)), total

    def fused(s: Sketch) -> tuple[str, str]:
        extra = [s.constant(c)] if bias else []
        first = s("SkipLayerNormalization", "x", "y", s.constant(g), s.constant(b), *extra, domain=MS, results=4, epsilon=1e-5)
        return first, s.second(3)

    return ways_of(
        {"x": normal(*shape), "y": normal(*shape, seed=4)},
        Add__LayerNormalization_without_SkipLayerNormFusion__BiasSkipLayerNormFusion=apart,
        SkipLayerNormalization=fused,
        alone__Add__LayerNormalization_without_SkipLayerNormFusion__BiasSkipLayerNormFusion=lambda s: apart(s)[0],
        alone__SkipLayerNormalization=lambda s: fused(s)[0],
    )


def rms_norm(*shape: int) -> Ways:
    """One alone."""
    g = normal(shape[-1], seed=1)

    def written(s: Sketch) -> str:
        mean = s("ReduceMean", s("Mul", "x", "x"), s.constant([-1], np.int64))
        return s("Mul", s("Div", "x", s("Sqrt", s("Add", mean, s.constant(1e-5)))), s.constant(g))

    return ways_of(
        {"x": normal(*shape)},
        written_out_without_SimplifiedLayerNormFusion__LayerNormFusionL2=written,
        RMSNormalization=lambda s: s("RMSNormalization", "x", s.constant(g)),
        SimplifiedLayerNormalization=lambda s: s("SimplifiedLayerNormalization", "x", s.constant(g), epsilon=1e-5),
    )


def skip_rms_norm(*shape: int) -> Ways:
    """The norm of a sum, and the sum."""
    g = normal(shape[-1], seed=1)

    def apart(s: Sketch, norm: str) -> tuple[str, str]:
        total = s("Add", "x", "y")
        return s(norm, total, s.constant(g), epsilon=1e-5), total

    def fused(s: Sketch) -> tuple[str, str]:
        first = s("SkipSimplifiedLayerNormalization", "x", "y", s.constant(g), domain=MS, results=4, epsilon=1e-5)
        return first, s.second(3)

    return ways_of(
        {"x": normal(*shape), "y": normal(*shape, seed=4)},
        Add__RMSNormalization=lambda s: apart(s, "RMSNormalization"),
        Add__SimplifiedLayerNormalization_without_SkipLayerNormFusion=lambda s: apart(s, "SimplifiedLayerNormalization"),
        SkipSimplifiedLayerNormalization=fused,
    )


def group_norm(groups: int, *shape: int) -> Ways:
    """Statistics over groups of channels, scale and bias per channel."""
    g, b = normal(shape[1], seed=1), normal(shape[1], seed=2)

    def instance(s: Sketch) -> str:
        split = s("Reshape", "x", s.constant([0, groups, -1], np.int64))
        one, none = s.constant(np.ones(groups)), s.constant(np.zeros(groups))
        return s("Reshape", s("InstanceNormalization", split, one, none), s.constant(shape, np.int64))

    def affine(s: Sketch, x: str) -> str:
        each = (1, shape[1], *(1 for _ in shape[2:]))
        return s("Add", s("Mul", x, s.constant(g.reshape(each))), s.constant(b.reshape(each)))

    def as_batch(s: Sketch, x: str) -> str:
        zeros, ones = s.constant(np.zeros(shape[1])), s.constant(np.ones(shape[1]))
        return s("BatchNormalization", x, s.constant(g), s.constant(b), zeros, ones, epsilon=0.0)

    def layer(s: Sketch) -> str:
        split = s("Reshape", "x", s.constant([0, groups, -1], np.int64))
        ones = s.constant(np.ones(int(np.prod(shape)) // shape[0] // groups))
        return s("Reshape", s("LayerNormalization", split, ones), s.constant(shape, np.int64))

    def per_channel(s: Sketch) -> str:
        split = s("Reshape", "x", s.constant([0, groups, shape[1] // groups, -1], np.int64))
        scale, bias = (s.constant(part.reshape(groups, -1, 1)) for part in (g, b))
        return s("Reshape", s("LayerNormalization", split, scale, bias, axis=2), s.constant(shape, np.int64))

    return ways_of(
        {"x": normal(*shape)},
        GroupNormalization=lambda s: s("GroupNormalization", "x", s.constant(g), s.constant(b), num_groups=groups),
        InstanceNormalization__Mul__Add=lambda s: affine(s, instance(s)),
        InstanceNormalization__BatchNormalization=lambda s: as_batch(s, instance(s)),
        LayerNormalization__Mul__Add=lambda s: affine(s, layer(s)),
        LayerNormalization_of_scale_per_channel=per_channel,
    )


def instance_norm(*shape: int) -> Ways:
    """Statistics over each channel."""
    g, b = normal(shape[1], seed=1), normal(shape[1], seed=2)

    def layer(s: Sketch) -> str:
        split = s("Reshape", "x", s.constant([0, shape[1], -1], np.int64))
        normed = s("LayerNormalization", split, s.constant(g.reshape(-1, 1)), s.constant(b.reshape(-1, 1)), axis=2)
        return s("Reshape", normed, s.constant(shape, np.int64))

    return ways_of(
        {"x": normal(*shape)},
        InstanceNormalization=lambda s: s("InstanceNormalization", "x", s.constant(g), s.constant(b)),
        LayerNormalization_of_scale_per_channel=layer,
    )
