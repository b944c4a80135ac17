"""Precision in the graph: where it can be chosen, and what each choice looks like in ordinary ops. Nothing here is exact."""

from .biases import correct_biases
from .dynamic import LEAST_GAIN, QuantizeDynamically, gain, quantize_dynamically, why_not_dynamic
from .equalizing import equalize
from .integers import ANY_TOGETHER, EXACT_TOGETHER, IntegerWeights, integer_weights
from .narrowing import NARROW, Narrow, narrow, narrow_attention, put_after, why_not_narrow
from .quantizing import quantize, wanted_results, wanted_values, why_not_quantized
from .ranges import Range
from .rounding import covariance, rounded_weights
from .sites import CONTRACTIONS, Form, Site, is_lowering, pattern, patterns, site_of, sites, source_of
from .smoothing import smooth
from .weights import QuantizeWeights, quantize_weights, why_not_quantized_weights

__all__ = [
    "ANY_TOGETHER",
    "CONTRACTIONS",
    "EXACT_TOGETHER",
    "NARROW",
    "LEAST_GAIN",
    "Form",
    "IntegerWeights",
    "Narrow",
    "QuantizeDynamically",
    "QuantizeWeights",
    "Range",
    "Site",
    "correct_biases",
    "covariance",
    "equalize",
    "gain",
    "integer_weights",
    "is_lowering",
    "narrow",
    "narrow_attention",
    "pattern",
    "patterns",
    "put_after",
    "quantize",
    "quantize_dynamically",
    "quantize_weights",
    "rounded_weights",
    "site_of",
    "sites",
    "smooth",
    "source_of",
    "wanted_results",
    "wanted_values",
    "why_not_dynamic",
    "why_not_narrow",
    "why_not_quantized",
    "why_not_quantized_weights",
]
