"""Networks on graphs: messages along edges, and adjacency as a matrix."""

# pyright: basic
# ruff: noqa: D103  an entry's name says what it is
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .table import Architecture, Call, entry, noise, tokens

EDGES = {"x": {0: "nodes"}, "edges": {1: "edges"}}


def linked(batch: int, length: int) -> Call:
    """As many nodes as the length, and edges between them."""
    return Call((noise(length, 16), tokens(2, 12 * batch, low=0, high=length)))


class Sage(nn.Module):
    """The mean of the neighbours (https://arxiv.org/abs/1706.02216), and the greatest of them besides."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.mean, self.most = nn.Linear(16, 24), nn.Linear(16, 24), nn.Linear(16, 24)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        source, target = edges[0], edges[1]
        total = torch.zeros_like(x).index_add(0, target, x[source])
        degree = torch.zeros_like(x[:, 0]).index_add(0, target, torch.ones_like(target, dtype=x.dtype))
        wide = target[:, None].expand(-1, x.shape[1])
        most = torch.zeros_like(x).scatter_reduce(0, wide, x[source], "amax", include_self=True)
        return torch.relu(self.own(x) + self.mean(total / degree.clamp(min=1)[:, None]) + self.most(most))


@entry("graph")
def graph_sage() -> Architecture:
    return Architecture(Sage(), linked, EDGES)


class GraphAttention(nn.Module):
    """Softmax over the edges that arrive at a node (https://arxiv.org/abs/1710.10903)."""

    def __init__(self, heads: int = 2, width: int = 8) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.project, self.head = nn.Linear(16, heads * width), nn.Linear(heads * width, 4)
        self.of_source, self.of_target = nn.Parameter(torch.randn(heads, width)), nn.Parameter(torch.randn(heads, width))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        source, target = edges[0], edges[1]
        h = self.project(x).reshape(-1, self.heads, self.width)
        score = (h * self.of_source).sum(-1)[source] + (h * self.of_target).sum(-1)[target]
        weight = F.leaky_relu(score, 0.2).exp()
        sums = torch.zeros_like(h[..., 0]).index_add(0, target, weight)
        messages = h[source] * (weight / (sums[target] + 1e-16))[..., None]
        return self.head(F.elu(torch.zeros_like(h).index_add(0, target, messages).flatten(1)))


@entry("graph")
def graph_attention() -> Architecture:
    return Architecture(GraphAttention(), linked, EDGES)


class GraphIsomorphism(nn.Module):
    """Sums of neighbours through a perceptron (https://arxiv.org/abs/1810.00826), then the sum over each graph of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.tensor(0.1))
        self.inner = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor, edges: Tensor, member: Tensor, pooled: Tensor) -> Tensor:
        for _ in range(2):
            x = self.inner(
                (1 + self.own) * x + torch.zeros_like(x).scatter_add(0, edges[1][:, None].expand(-1, 16), x[edges[0]])
            )
        return self.head(pooled.index_add(0, member, x))


@entry("graph")
def graph_isomorphism() -> Architecture:
    def inputs(batch: int, length: int) -> Call:
        member = torch.arange(length) % batch
        return Call((*linked(batch, length).args, member.sort().values, torch.zeros(batch, 16)))

    return Architecture(GraphIsomorphism(), inputs, {**EDGES, "member": {0: "nodes"}, "pooled": {0: "graphs"}})


class GraphConvolution(nn.Module):
    """Products with the normalized adjacency matrix (https://arxiv.org/abs/1609.02907)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 24), nn.Linear(24, 4)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        looped = adjacency.float() + torch.eye(adjacency.shape[0])
        scale = looped.sum(1).rsqrt()
        normalized = scale[:, None] * looped * scale[None, :]
        return F.log_softmax(normalized @ self.second(F.relu(normalized @ self.first(x))), dim=-1)


@entry("graph")
def graph_convolution() -> Architecture:
    return Architecture(
        GraphConvolution(),
        lambda batch, length: Call((noise(length, 16), noise(length, length, seed=2) > 0.5)),
        {"x": {0: "nodes"}, "adjacency": {0: "nodes", 1: "nodes"}},
    )
