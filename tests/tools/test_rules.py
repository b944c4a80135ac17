"""What `irc rules` shows of the catalogue and of a user's rules, what a model makes of them, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from irc.ir.text import parse_graph, print_graph
from irc.passes import catalogue_by_topic

from .models import PERTURB, Shell

BY_TOPIC = catalogue_by_topic()
NAMES = [rule.name for rules in BY_TOPIC.values() for rule in rules]
WRITTEN = [rules for rules in BY_TOPIC.values() if any(rule.written for rule in rules)]
IN_PYTHON = next(rule for rules in BY_TOPIC.values() for rule in rules if rule.written is None)
DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits.onnx"
FACTS = ["name", "topic", "contract", "roots", "sources", "does"]
USAGE = 2

MINE = """\
# The larger of x and 0 is Relu by definition.
rule relu-by-max [exact]:
    from nobody
    given %x: float
    Relu(%x)
    => Max(%x, 0)
"""
NEVER = """\
# No float has the rank 2 and the rank 3.
rule never [exact]:
    given %x: float[_, _]
    Relu(%x)
    where rank(%x) == 3
    => Max(%x, 0)
"""
RULE_IN_PYTHON = """
from irc.passes import No, rule


@rule("Relu")
def relu_of_nothing(op, rewrite):
    \"\"\"Nothing, ever.\"\"\"
    return No("never")
"""


def table(out: str) -> list[list[str]]:
    """The rows of a table by their cells, the names of the columns first, without the lines that only continue one."""
    return [re.split(r"  +", line) for line in out.splitlines()[:-1] if not line.startswith(" ")]


def rules_of(out: str) -> list[dict[str, Any]]:
    """The rules of a list in JSON."""
    found = json.loads(out)
    assert list(found) == ["rules"]
    return found["rules"]


def write(shell: Shell, name: str, text: str) -> str:
    (shell.folder / name).write_text(text)
    return name


def refuse(shell: Shell, *arguments: object) -> str:
    """What `irc rules` says to be wrong with these arguments."""
    said = shell.run("rules", *arguments)
    assert (said.code, said.out) == (USAGE, "")
    assert said.err.startswith("irc: error: ")
    return said.err


# The list


def test_all_rules_are_listed_by_topic(shell: Shell) -> None:
    out = shell.good("rules")
    header, *rows = table(out)
    assert header == ["rule", "topic", "contract", "sources", "what it does"]
    assert [row[:2] for row in rows] == [[rule.name, topic] for topic, rules in BY_TOPIC.items() for rule in rules]
    assert out.endswith(f"\n{len(NAMES)} rules\n")


def test_all_rules_in_json(shell: Shell) -> None:
    found = rules_of(shell.good("rules", "--json"))
    assert [list(each) for each in found] == [[*FACTS, "applied"]] * len(NAMES)
    assert [each["name"] for each in found] == NAMES
    assert all(each["does"] and each["roots"] for each in found)
    assert {each["applied"] for each in found} == {None}
    silu = next(each for each in found if each["name"] == "silu")
    assert (silu["topic"], silu["contract"], silu["roots"]) == ("activations", "reassociating", ["Mul"])
    assert "torch" in silu["sources"]


@pytest.mark.parametrize("topic", BY_TOPIC)
def test_one_topic(shell: Shell, topic: str) -> None:
    names = [rule.name for rule in BY_TOPIC[topic]]
    out = shell.good("rules", "--topic", topic)
    assert [row[:2] for row in table(out)[1:]] == [[name, topic] for name in names]
    assert out.endswith(f"\n{len(names)} rules\n")
    assert [(each["name"], each["topic"]) for each in rules_of(shell.good("rules", "--topic", topic, "--json"))] == [
        (name, topic) for name in names
    ]


def test_an_unknown_topic(shell: Shell) -> None:
    assert refuse(shell, "--topic", "mask") == "irc: error: there is no topic 'mask' (did you mean masks?)\n"
    assert f"(topics: {', '.join(BY_TOPIC)}, yours)" in refuse(shell, "--topic", "zzz")
    assert "there is no topic 'mask'" in refuse(shell, "--topic", "mask", "--json")


# One rule


def test_a_rule_is_shown_at_work(shell: Shell) -> None:
    out = shell.good("rules", "--show", "silu")
    head, does, *_ = out.splitlines()
    assert head == "silu: reassociating; written so by torch, tf2onnx, keras, paddle"
    assert does == "Sigmoid is what x is weighed with: x * sigmoid(x) is Swish with alpha = 1."
    before, after = out.partition("\nFrom\n\n")[2].split("\nit makes\n\n")
    assert [[op.name for op in parse_graph(text)] for text in (before, after)] == [["Sigmoid", "Mul"], ["Swish"]]
    assert shell.good("rules", "--show", "silu") == out


@pytest.mark.parametrize("name", [next(r.name for r in rules if r.written) for rules in WRITTEN])
def test_a_rule_in_json(shell: Shell, name: str) -> None:
    found = json.loads(shell.good("rules", "--show", name, "--json"))
    assert list(found) == [*FACTS, "example"]
    assert found["name"] == name
    assert list(found["example"]) == ["before", "after"]
    before, after = found["example"].values()
    assert before != after
    for text in (before, after):
        assert print_graph(parse_graph(text), locations=False) == text


def test_a_rule_in_python_has_no_example(shell: Shell) -> None:
    out = shell.good("rules", "--show", IN_PYTHON.name)
    assert out.startswith(f"{IN_PYTHON.name}: {IN_PYTHON.contract.text}")
    assert IN_PYTHON.doc in out
    assert "It is written in Python, so no example is made" in out
    found = json.loads(shell.good("rules", "--show", IN_PYTHON.name, "--json"))
    assert (found["does"], found["example"]) == (IN_PYTHON.doc, None)


def test_a_rule_whose_conditions_no_example_meets(shell: Shell) -> None:
    flags = ["--show", "never", "--load", write(shell, "never.rules", NEVER)]
    out = shell.good("rules", *flags)
    assert "examples made from its text meets its conditions" in out
    assert "Python" not in out
    assert json.loads(shell.good("rules", *flags, "--json"))["example"] is None


def test_an_unknown_rule(shell: Shell) -> None:
    assert refuse(shell, "--show", "sillu") == "irc: error: there is no rule 'sillu' (did you mean silu?)\n"
    assert refuse(shell, "--show", "zzz") == "irc: error: there is no rule 'zzz' (`irc rules` lists them)\n"
    assert "there is no rule 'silu' in topic 'masks'" in refuse(shell, "--show", "silu", "--topic", "masks")
    assert "did you mean silu?" in refuse(shell, "--show", "sillu", "--json")


def test_a_rule_is_not_shown_on_a_model(shell: Shell) -> None:
    assert "a model has no use (leave one of them out)" in refuse(shell, "good.onnx", "--show", "silu")


# A model


def test_how_often_each_rule_applies_to_a_model(shell: Shell) -> None:
    header, *rows = table(shell.good("rules", DIGITS))
    assert header == ["rule", "topic", "contract", "applied", "what it does"]
    found = rules_of(shell.good("rules", DIGITS, "--json"))
    assert [each["name"] for each in found] == NAMES
    counts = {each["name"]: each["applied"] for each in found if each["applied"]}
    # It has three batch norms, each behind a convolution.
    assert counts == {"batch-norm-after-convolution": 3}
    assert [(row[0], row[3]) for row in rows] == [(name, str(count)) for name, count in counts.items()]


def test_the_counts_are_those_of_optimizing(shell: Shell) -> None:
    applied = {each["name"]: each["applied"] for each in rules_of(shell.good("rules", DIGITS, "--json")) if each["applied"]}
    passes = json.loads(shell.good("opt", DIGITS, "-o", "better.onnx", "--json"))["passes"]
    rewrites = next(record["rewrites"] for record in passes if record["pass"] == "rules")
    assert applied == {name: count for name, count in rewrites.items() if name in NAMES}


@pytest.mark.parametrize("level", ["-O0", "-O1"])
def test_a_level_that_keeps_bits_applies_no_rule_that_rounds(shell: Shell, level: str) -> None:
    found = rules_of(shell.good("rules", DIGITS, level, "--json"))
    assert {each["applied"] for each in found if each["contract"] != "exact"} == {0}
    assert shell.good("rules", DIGITS, level).endswith("\n0 rules apply, 0 times\n")


def test_counting_in_one_topic(shell: Shell) -> None:
    assert table(shell.good("rules", DIGITS, "--topic", "masks"))[1:] == []
    assert [row[0] for row in table(shell.good("rules", DIGITS, "--topic", "convolutions"))[1:]] == [
        "batch-norm-after-convolution"
    ]


def test_a_model_that_is_missing(shell: Shell) -> None:
    assert "there is no file 'missing.onnx'" in refuse(shell, "missing.onnx")


# Rules of the user's


def test_the_users_rules_are_a_topic(shell: Shell) -> None:
    load = ["--load", write(shell, "mine.rules", MINE)]
    row = ["relu-by-max", "yours", "exact", "nobody", "The larger of x and 0 is Relu by definition."]
    assert table(shell.good("rules", *load))[-1] == row
    assert table(shell.good("rules", *load, "--topic", "yours"))[1:] == [row]
    assert [each["name"] for each in rules_of(shell.good("rules", *load, "--json"))] == [*NAMES, "relu-by-max"]
    assert table(shell.good("rules", "--topic", "yours"))[1:] == []


def test_the_users_rules_are_shown(shell: Shell) -> None:
    flags = ["--load", write(shell, "mine.rules", MINE), "--show", "relu-by-max"]
    found = json.loads(shell.good("rules", *flags, "--json"))
    assert (found["topic"], found["sources"]) == ("yours", ["nobody"])
    names = [[op.name for op in parse_graph(text) if not op.is_constant] for text in found["example"].values()]
    assert names == [["Relu"], ["Max"]]
    assert shell.good("rules", *flags).startswith("relu-by-max: exact; written so by nobody\n")


def test_the_users_rules_are_counted(shell: Shell) -> None:
    load = ["--load", write(shell, "mine.rules", MINE)]
    (row,) = table(shell.good("rules", "good.onnx", *load))[1:]
    assert row[:4] == ["relu-by-max", "yours", "exact", "1"]
    assert shell.good("rules", DIGITS, *load, "--topic", "yours").endswith("\n1 rule applies, 4 times\n")
    assert rules_of(shell.good("rules", DIGITS, *load, "--topic", "yours", "--json"))[0]["applied"] == 4


BROKEN = {
    "Max(%x, 0)": ("Maxx(%x, 0)", "6:8: ONNX has no op 'Maxx'", "Maxx", "did you mean Max?"),
    "%x: float": ("%x: floot", "4:11: there is no type 'floot'", "%x: floot", "did you mean float?"),
    "=> Max(%x": ("=> Max(%y", "6:12: %y is not bound by the pattern", "%y", ""),
    "Relu(%x)": ("Relu(%x", "6:5: '=>' does not belong here", "=>", "expected comma"),
}
"""What to replace in `MINE`: by what, the place and the complaint, what is underlined, and the way out."""


@pytest.mark.parametrize("flags", [[], ["--json"], ["good.onnx"], ["--topic", "masks"]])
@pytest.mark.parametrize("old", BROKEN)
def test_a_mistake_in_a_file_is_pointed_at(shell: Shell, old: str, flags: list[str]) -> None:
    new, complaint, underlined, hint = BROKEN[old]
    text = MINE.replace(old, new)
    first, line, carets, *rest = refuse(shell, "--load", write(shell, "mine.rules", text), *flags).splitlines()
    assert first.startswith(f"irc: error: mine.rules:{complaint}")
    assert line == text.splitlines()[int(complaint.partition(":")[0]) - 1]
    assert carets == " " * line.index(underlined) + "^" * len(underlined)
    assert "\n".join(rest).strip().startswith(hint)


@pytest.mark.parametrize("name", ["cse", "silu", "relu-by-max"])
@pytest.mark.parametrize("flags", [[], ["--json"], ["good.onnx"], ["--topic", "masks"], ["--show", "silu"]])
def test_a_name_that_is_taken(shell: Shell, name: str, flags: list[str]) -> None:
    first = ["--load", write(shell, "first.rules", MINE)]
    second = ["--load", write(shell, "second.rules", MINE.replace("relu-by-max", name))]
    assert f"second.rules: there is a pass or rule '{name}' already" in refuse(shell, *first, *second, *flags)


@pytest.mark.parametrize("name", ["missing.rules", "missing.py"])
def test_a_file_that_is_missing(shell: Shell, name: str) -> None:
    assert f"there is no file '{name}'" in refuse(shell, "--load", name)


def test_a_rule_in_python_is_listed_with_the_others(shell: Shell) -> None:
    found = rules_of(shell.good("rules", "--load", write(shell, "mine.py", RULE_IN_PYTHON), "--json"))
    assert [each["name"] for each in found] == [*NAMES, "relu-of-nothing"]
    assert found[-1]["topic"] == "yours"


def test_where_the_passes_of_a_file_are_listed(shell: Shell) -> None:
    said = shell.run("rules", "--load", write(shell, "mine.py", PERTURB), "--json")
    assert said.code == 0
    assert [each["name"] for each in rules_of(said.out)] == NAMES
    assert said.err == "irc: what is loaded are passes and no rules: `irc passes --load mine.py` lists them\n"
    shell.good("passes", "--load", "mine.py")
