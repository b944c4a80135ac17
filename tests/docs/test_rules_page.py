"""The rules that docs/rules.md shows can be read, and its tables name every function of the language."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from irc.passes.language import read_rules
from irc.passes.language.builders import BUILDERS
from irc.passes.language.functions import FUNCTIONS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "rules.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = [match[1] for match in re.finditer(r"^```rules\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)]
WHOLE = [block for block in BLOCKS if re.match(r"(#[^\n]*\n)+rule\s", block)]


def test_the_page_shows_rules() -> None:
    assert len(WHOLE) >= 2


@pytest.mark.parametrize("block", WHOLE, ids=lambda block: re.findall(r"^rule (\S+)", block, re.MULTILINE)[0])
def test_every_rule_of_the_page_can_be_read(block: str) -> None:
    names = [rule.name for rule in read_rules(block, PAGE.name)]
    assert names == re.findall(r"^rule (\S+)", block, re.MULTILINE)


@pytest.mark.parametrize("name", [*FUNCTIONS, *BUILDERS])
def test_the_page_names_every_function(name: str) -> None:
    assert re.search(rf"`{name}\(", TEXT), f"docs/rules.md does not say what {name} is"
