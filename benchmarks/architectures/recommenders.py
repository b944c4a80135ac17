"""Recommenders: embedding tables, their products, and bags of rows."""

# pyright: basic
# ruff: noqa: D103  an entry's name says what it is
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .table import Architecture, Call, enliven, entry, noise, tokens


class DLRM(nn.Module):
    """Products of all pairs of embeddings (https://arxiv.org/abs/1906.00091)."""

    rows: Tensor
    columns: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.bottom = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
        self.tables = nn.ModuleList(nn.Embedding(50, 16) for _ in range(3))
        self.top = nn.Sequential(nn.Linear(16 + 6, 16), nn.ReLU(), nn.Linear(16, 1))
        rows, columns = torch.tril_indices(4, 4, -1)
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)

    def forward(self, dense: Tensor, sparse: Tensor) -> Tensor:
        x = self.bottom(dense)
        features = torch.stack([x, *(table(sparse[:, index]) for index, table in enumerate(self.tables))], 1)
        pairs = torch.bmm(features, features.transpose(1, 2))[:, self.rows, self.columns]
        return torch.sigmoid(self.top(torch.cat([x, pairs], 1)))


@entry("recommender")
def dlrm() -> Architecture:
    return Architecture(
        DLRM(),
        lambda batch, length: Call((noise(batch, 8), tokens(batch, 3, low=0, high=50))),
        {"dense": {0: "batch"}, "sparse": {0: "batch"}},
    )


class DeepFM(nn.Module):
    """A factorization machine beside a perceptron (https://arxiv.org/abs/1703.04247)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.embedding = nn.Embedding(200, 1), nn.Embedding(200, 8)
        self.deep = nn.Sequential(nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 1))

    def forward(self, fields: Tensor) -> Tensor:
        rows = self.embedding(fields)
        pairs = 0.5 * (rows.sum(1) ** 2 - (rows**2).sum(1)).sum(1, keepdim=True)
        return torch.sigmoid(self.linear(fields).sum(1) + pairs + self.deep(rows.flatten(1)))


@entry("recommender")
def deepfm() -> Architecture:
    return Architecture(DeepFM(), lambda batch, length: Call((tokens(batch, 4, low=0, high=200),)), {"fields": {0: "batch"}})


class TwoTowers(nn.Module):
    """Means of embedding bags, compared by their angle."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.EmbeddingBag(50, 16, mode="mean"), nn.EmbeddingBag(50, 16, mode="mean")
        self.left, self.right = nn.Linear(16, 8), nn.Linear(16, 8)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        left, right = F.normalize(self.left(self.user(user)), dim=-1), F.normalize(self.right(self.item(item)), dim=-1)
        return (left * right).sum(-1)


@entry("recommender")
def two_towers() -> Architecture:
    return Architecture(
        enliven(TwoTowers()),
        lambda batch, length: Call((tokens(batch, length, low=0, high=50), tokens(batch, 4, low=0, high=50))),
        {"user": {0: "batch", 1: "history"}, "item": {0: "batch"}},
    )


class Bag(nn.Module):
    """Sums of bags that offsets part."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(50, 16, mode="sum")

    def forward(self, values: Tensor, offsets: Tensor) -> Tensor:
        return self.bag(values, offsets)


@entry("recommender")
def embedding_bag() -> Architecture:
    return Architecture(
        Bag(),
        lambda batch, length: Call((tokens(batch * length, low=0, high=50), torch.arange(batch) * length)),
        {"values": {0: "values"}, "offsets": {0: "batch"}},
    )


class SequentialAttention(nn.Module):
    """What comes next after a history of items (https://arxiv.org/abs/1808.09781)."""

    def __init__(self) -> None:
        super().__init__()
        self.items, self.places = nn.Embedding(50, 32), nn.Embedding(32, 32)
        layer = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, history: Tensor) -> Tensor:
        length = history.shape[1]
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        x = self.items(history) + self.places(torch.arange(length))
        return self.layers(x, mask=later, is_causal=True)[:, -1] @ self.items.weight.T


@entry("recommender")
def sequential_attention() -> Architecture:
    return Architecture(
        SequentialAttention(),
        lambda batch, length: Call((tokens(batch, length, low=0, high=50),)),
        {"history": {0: "batch", 1: "length"}},
    )
