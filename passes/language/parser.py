"""Rule files to syntax trees, by the grammar in `rules.lark`; named patterns are put in where they are called."""

# pyright: basic
from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import lark
from lark import Lark, Token, Tree

from irc.ir import closest

from ..base import Contract
from .errors import RuleError, Source
from .substitute import Definition, expand
from .tree import (
    Alias,
    Alternatives,
    Binary,
    Call,
    Choice,
    Conditional,
    Declaration,
    DimName,
    Expression,
    Index,
    Let,
    Listing,
    Number,
    Operation,
    Place,
    Result,
    RuleTree,
    ScalarName,
    SetAttribute,
    ShapeItem,
    Shared,
    Text,
    Unary,
    ValueName,
)

_WORDS = {"true": 1, "false": 0, "inf": float("inf"), "pi": 3.141592653589793}


def parse_rules(text: str, name: str) -> list[RuleTree]:
    """The rules of a file, in order. Raises RuleError for the first mistake of form."""
    source = Source(name, text)
    try:
        tree = _parser().parse(text)
    except lark.exceptions.UnexpectedInput as error:
        raise _unexpected(error, source) from None
    builder = _Builder(source)
    rules: list[RuleTree] = []
    definitions: dict[str, Definition] = {}
    for part in _trees(tree):
        if part.data == "definition":
            made = builder.definition(part, definitions)
            definitions[made.name] = made
        else:
            rules.append(builder.rule(part, definitions))
    return rules


@lru_cache(maxsize=1)
def _parser() -> Lark:
    grammar = Path(__file__).with_name("rules.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", maybe_placeholders=True, propagate_positions=True)


_TERMINALS = {"NAME": "a name in kebab-case", "IDENT": "a word", "UPPER": "an op", "VALUE": "%name", "SCALAR": "$name"}


def _unexpected(error: lark.exceptions.UnexpectedInput, source: Source) -> RuleError:
    if isinstance(error, lark.exceptions.UnexpectedEOF) or getattr(getattr(error, "token", None), "type", "") == "$END":
        lines = source.text.rstrip().splitlines() or [""]
        return source.error("the file ends in the middle of a rule", Place(len(lines), len(lines[-1]) + 1, 1))
    token = getattr(error, "token", None)
    width = len(token) if isinstance(token, Token) else 1
    what = f"'{token}'" if isinstance(token, Token) else "this character"
    expected = sorted(set(getattr(error, "expected", None) or getattr(error, "allowed", None) or ()))
    words = [str(_TERMINALS.get(word, word.lower())) for word in expected if not word.startswith("_")]
    hint = f"expected {', '.join(words)}" if 0 < len(words) <= 8 else None
    return source.error(f"{what} does not belong here", Place(max(error.line, 1), max(error.column, 1), width), hint)


def _trees(tree: Tree[Token]) -> Iterator[Tree[Token]]:
    return (child for child in tree.children if isinstance(child, Tree))


def _place(item: Tree[Token] | Token) -> Place:
    if isinstance(item, Token):
        return Place(item.line or 1, item.column or 1, len(item))
    meta = item.meta
    if meta.empty:
        return Place(1, 1, 1)
    width = meta.end_column - meta.column if meta.end_line == meta.line else 10**6
    return Place(meta.line, meta.column, width)


class _Builder:
    """Turns the parser's trees into ours."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.lines = source.text.splitlines()

    def definition(self, tree: Tree[Token], known: Mapping[str, Definition]) -> Definition:
        _, name, *parameters, body = tree.children
        names = tuple(str(p) for p in parameters if isinstance(p, Token))
        return Definition(_word(name), names, expand(self.expression(body), known, self.source))

    def rule(self, tree: Tree[Token], definitions: Mapping[str, Definition]) -> RuleTree:
        keyword, name, contract_word, sources, given, pattern, *rest = tree.children
        assert isinstance(keyword, Token)
        clauses: list[Any] = [c for c in rest if isinstance(c, Tree) and c.data in ("where", "let", "sample")]
        replacements = [c for c in rest if c is not None and c not in clauses]
        by_kind: dict[str, list[Any]] = {kind: [c for c in clauses if c.data == kind] for kind in ("where", "let", "sample")}

        def built(item: Any) -> Expression:
            return expand(self.expression(item), definitions, self.source)

        return RuleTree(
            _place(name),
            name=_word(name),
            contract=self._contract(contract_word),
            doc=self._comment_above(keyword.line or 1),
            sources=tuple(_word(c) for c in sources.children[1:]) if isinstance(sources, Tree) else (),
            declarations=tuple(self._declaration(d) for d in given.children[1:]) if isinstance(given, Tree) else (),
            pattern=built(pattern),
            conditions=tuple((built(c), self._text(c)) for clause in by_kind["where"] for c in clause.children[1:]),
            lets=tuple(Let(_place(c.children[1]), str(c.children[1]), built(c.children[2])) for c in by_kind["let"]),
            choices=tuple(
                Choice(_place(c), str(c.children[0]), built(c.children[2]))
                for clause in by_kind["sample"]
                for c in clause.children[1:]
            ),
            replacements=tuple(built(c) for c in replacements),
            file=self.source.name,
        )

    def _contract(self, tree: Any) -> Contract:
        word = _word(tree)
        if word.upper() in Contract.__members__:
            return Contract[word.upper()]
        words = [c.text for c in Contract]
        raise self.source.error(
            f"there is no contract '{word}'", _place(tree), closest(word, words) or f"it is one of {', '.join(words)}"
        )

    def _comment_above(self, line: int) -> str:
        found: list[str] = []
        for text in reversed(self.lines[: line - 1]):
            if not text.startswith("#"):
                break
            found.append(text.lstrip("#").strip())
        return "\n".join(reversed(found))

    def _text(self, item: Any) -> str:
        if isinstance(item, Token):
            return str(item)
        meta = item.meta
        return " ".join(self.source.text[meta.start_pos : meta.end_pos].split())

    def _declaration(self, tree: Any) -> Declaration:
        names: list[Any] = tree.children[:-1]
        kind: Any = tree.children[-1]
        parts: list[Any] = [part for part in kind.children if part is not None]
        words = tuple(_word(part) for part in parts if part.data == "dtype")
        bracketed = self._text(kind).endswith("]")
        shape = tuple(_SHAPE_ITEMS[part.data](part) for part in parts if part.data != "dtype") if bracketed else None
        return Declaration(_place(tree), tuple(str(n)[1:] for n in names), words, shape)

    def expression(self, item: Any) -> Expression:
        """The node a parser's tree stands for."""
        if isinstance(item, Token):  # only anonymous tokens come here, and the grammar has none in expressions
            raise AssertionError(item)
        made = getattr(self, f"_{item.data}")(item, [c for c in item.children if c is not None])
        return made

    def _listed(self, children: list[Any]) -> tuple[Expression, ...]:
        return tuple(self.expression(c) for c in children)

    def _value(self, tree: Any, children: list[Any]) -> Expression:
        return ValueName(_place(tree), str(children[0])[1:])

    def _optional_value(self, tree: Any, children: list[Any]) -> Expression:
        return ValueName(_place(tree), str(children[0])[1:], "?")

    def _variadic_value(self, tree: Any, children: list[Any]) -> Expression:
        return ValueName(_place(tree), str(children[0])[1:], "...")

    def _any_value(self, tree: Any, children: list[Any]) -> Expression:
        return ValueName(_place(tree), "")

    def _any_optional(self, tree: Any, children: list[Any]) -> Expression:
        return ValueName(_place(tree), "", "?")

    def _any_variadic(self, tree: Any, children: list[Any]) -> Expression:
        return ValueName(_place(tree), "", "...")

    def _scalar(self, tree: Any, children: list[Any]) -> Expression:
        return ScalarName(_place(tree), str(children[0])[1:])

    def _optional_scalar(self, tree: Any, children: list[Any]) -> Expression:
        return ScalarName(_place(tree), str(children[0])[1:], optional=True)

    def _integer(self, tree: Any, children: list[Any]) -> Expression:
        return Number(_place(tree), int(children[0]))

    def _real(self, tree: Any, children: list[Any]) -> Expression:
        return Number(_place(tree), float(children[0]))

    def _within(self, tree: Any, children: list[Any]) -> Expression:
        value, tolerance = self._listed(children)
        if not isinstance(value, Number) or not isinstance(tolerance, Number):
            raise self.source.error("only a number has a tolerance", _place(tree), "write it as 1.702~1e-3")
        return Number(value.place, value.value, float(tolerance.value))

    def _text_literal(self, tree: Any, children: list[Any]) -> Expression:
        return Text(_place(tree), str(ast.literal_eval(str(children[0]))))

    def _dim_name(self, tree: Any, children: list[Any]) -> Expression:
        return DimName(_place(tree), str(children[0]))

    def _word_value(self, tree: Any, children: list[Any]) -> Expression:
        word = str(children[0])
        return Number(_place(tree), _WORDS[word]) if word in _WORDS else Text(_place(tree), word)

    def _operation(self, tree: Any, children: list[Any]) -> Expression:
        name, *rest = children
        attributes = rest.pop() if rest and isinstance(rest[-1], Tree) and rest[-1].data == "attributes" else None
        domain, _, plain = str(name.children[0]).rpartition("::")
        given = attributes.children if attributes is not None else []
        return Operation(
            Place(_place(tree).line, _place(tree).column, len(str(name.children[0]))),
            domain,
            plain,
            self._listed(rest),
            tuple(
                SetAttribute(_place(a), str(a.children[0]), self.expression(a.children[1]))
                for a in given
                if a.data == "set_attribute"
            ),
            tuple(str(a.children[0])[1:] for a in given if a.data == "copied_attributes"),
            any(a.data == "open_attributes" for a in given),
        )

    def _call(self, tree: Any, children: list[Any]) -> Expression:
        name, *arguments = children
        return Call(_place(tree), str(name), self._listed(arguments))

    def _listing(self, tree: Any, children: list[Any]) -> Expression:
        return Listing(_place(tree), self._listed(children))

    def _binary(self, tree: Any, children: list[Any]) -> Expression:
        left, operator, right = children
        return Binary(_place(tree), str(operator), self.expression(left), self.expression(right))

    _compared = _binary

    def _powered(self, tree: Any, children: list[Any]) -> Expression:
        return Binary(_place(tree), "**", *self._listed(children))

    def _contained(self, tree: Any, children: list[Any]) -> Expression:
        left, _, right = children
        return Binary(_place(tree), "in", self.expression(left), self.expression(right))

    def _not_contained(self, tree: Any, children: list[Any]) -> Expression:
        left, _, _, right = children
        return Unary(_place(tree), "not", Binary(_place(tree), "in", self.expression(left), self.expression(right)))

    def _joined(self, tree: Any, children: list[Any], operator: str) -> Expression:
        first, *others = self._listed([c for c in children if isinstance(c, Tree)])
        for other in others:
            first = Binary(_place(tree), operator, first, other)
        return first

    def _disjunction(self, tree: Any, children: list[Any]) -> Expression:
        return self._joined(tree, children, "or")

    def _conjunction(self, tree: Any, children: list[Any]) -> Expression:
        return self._joined(tree, children, "and")

    def _negated(self, tree: Any, children: list[Any]) -> Expression:
        return Unary(_place(tree), "not", self.expression(children[-1]))

    def _negative(self, tree: Any, children: list[Any]) -> Expression:
        operand = self.expression(children[0])
        if isinstance(operand, Number):
            return Number(_place(tree), -operand.value, operand.tolerance)
        return Unary(_place(tree), "-", operand)

    def _conditional(self, tree: Any, children: list[Any]) -> Expression:
        yes, condition, no = self._listed([c for c in children if isinstance(c, Tree)])
        return Conditional(_place(tree), condition, yes, no)

    def _alternatives(self, tree: Any, children: list[Any]) -> Expression:
        return Alternatives(_place(tree), self._listed(children))

    def _alias(self, tree: Any, children: list[Any]) -> Expression:
        pattern, _, name = children
        return Alias(_place(tree), self.expression(pattern), str(name)[1:])

    def _result(self, tree: Any, children: list[Any]) -> Expression:
        return Result(_place(tree), self.expression(children[0]), int(children[1]))

    def _index(self, tree: Any, children: list[Any]) -> Expression:
        return Index(_place(tree), *self._listed(children))

    def _shared(self, tree: Any, children: list[Any]) -> Expression:
        return Shared(_place(tree), self.expression(children[-1]))


_SHAPE_ITEMS: dict[str, Callable[[Any], ShapeItem]] = {
    "fixed_dim": lambda d: ShapeItem("fixed", size=int(d.children[0])),
    "named_dim": lambda d: ShapeItem("named", str(d.children[0])),
    "any_dim": lambda d: ShapeItem("any"),
    "rest_dims": lambda d: ShapeItem("rest", str(d.children[0]) if d.children and d.children[0] is not None else ""),
}


def _word(item: Any) -> str:
    return str(item.children[0])
