"""What the leaves of a parsed text stand for: words, names, quoted strings, op names and locations."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TypeAlias, cast

from lark import Token, Tree

from ..location import Location, at

Node: TypeAlias = "Tree[Token]"


class BadStringError(Exception):
    """A quoted string that JSON cannot read; the parser shows where it stands."""

    def __init__(self, token: Token) -> None:
        self.token = token
        super().__init__()


def tree_of(child: object) -> Node:
    """The child, which the grammar makes a tree."""
    assert isinstance(child, Tree)
    return cast("Node", child)


def token_of(child: object) -> Token:
    """The child, which the grammar makes a token."""
    assert isinstance(child, Token)
    return child


def unquote(token: Token) -> str:
    """The text of a quoted string."""
    return _unquoted(token, token)


def _unquoted(text: str, token: Token) -> str:
    try:
        return json.loads(text)
    except ValueError:
        raise BadStringError(token) from None


def word(node: Node) -> str:
    """The text of a word, bare or quoted."""
    token = token_of(node.children[0])
    return unquote(token) if token.startswith('"') else str(token)


def value_name(token: Token) -> str:
    """The name of a value, without its sign and quotes."""
    text = token[1:]
    return _unquoted(text, token) if text.startswith('"') else text


def pairs(node: Node) -> Iterable[tuple[Token, Token]]:
    """The keys and values of a list of entries."""
    tokens = [token_of(t) for t in node.children]
    return zip(tokens[::2], tokens[1::2], strict=True)


def op_identity(node: Node) -> tuple[str, int | None, str]:
    """The domain, the pinned opset and the name of an op."""
    text = token_of(node.children[0])
    full = unquote(text) if node.data == "quoted_op" else str(text)
    domain, separator, name = full.rpartition("::")
    if not separator:
        return "", None, full
    base, pinned, version = domain.partition("@")
    return ("" if base == "ai.onnx" else base), int(version) if pinned else None, name


def location_of(node: Node) -> Location:
    """The location an op is given."""
    origins_node, *rewrites = node.children
    children = tree_of(origins_node).children
    origins = [word(c) if isinstance(c, Tree) else unquote(token_of(c)) for c in children]
    via = [unquote(r) for r in rewrites if isinstance(r, Token)]  # the parser fills in None for none
    if len(origins) == 1 and not via:
        return at(origins[0])
    length = max(len(origins), len(via))
    origins += [""] * (length - len(origins))
    via += [""] * (length - len(via))
    first, *others = (Location(origin=o, rewrite=r) for o, r in zip(origins, via, strict=True))
    return Location(origin=first.origin, rewrite=first.rewrite, parents=tuple(others))
