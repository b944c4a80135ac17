"""Compression: smaller models by taking channels, weights, ranks or distinct values away; each needs an error budget."""

from .channels import PruneChannels, PrunedGroup, Pruning, prune_channels
from .low_rank import LowRank, factorize
from .reconstructing import grams_wanted
from .sharing import ShareWeights
from .weights import PruneWeights

__all__ = [
    "LowRank",
    "PruneChannels",
    "PruneWeights",
    "PrunedGroup",
    "Pruning",
    "ShareWeights",
    "factorize",
    "grams_wanted",
    "prune_channels",
]
