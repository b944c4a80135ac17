"""Calibration: samples of what a model is fed, what the reference makes of them inside, and ranges for integers from it."""

from .observers import ChannelExtremes, ChannelMoments, Gram, Histogram, Observer, SampleExtents, Samples
from .observing import observe
from .ranges import METHODS, entropy_range, min_max_range, mse_range, percentile_range, squared_error
from .sources import Calibration, Data, Progress, Sample, read_calibration

__all__ = [
    "METHODS",
    "Calibration",
    "ChannelExtremes",
    "ChannelMoments",
    "Data",
    "Gram",
    "Histogram",
    "Observer",
    "Progress",
    "Sample",
    "SampleExtents",
    "Samples",
    "entropy_range",
    "min_max_range",
    "mse_range",
    "observe",
    "percentile_range",
    "read_calibration",
    "squared_error",
]
