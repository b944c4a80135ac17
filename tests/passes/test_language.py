"""The rule language: what patterns match, what the right side makes, and where a mistake in a rule file is shown."""

from __future__ import annotations

import pytest

from irc.ir import verify
from irc.ir.text import parse_graph, print_graph
from irc.passes import Context, Rewriter
from irc.passes.language import RuleError, read_rules


def rewritten(rules: str, graph: str, *, fires: bool = True) -> str:
    """The ops of a graph after the rules of a text, without constants, or why none matched."""
    parsed = parse_graph(graph)
    context = Context(remark=True)
    Rewriter(parsed, read_rules(rules, "test.rules"), context).run()
    verify(parsed)
    assert bool(context.total) == fires, [miss.text for miss in context.misses]
    if not fires:
        return "; ".join(dict.fromkeys(miss.reason for miss in context.misses))
    lines = print_graph(parsed, locations=False).splitlines()
    return "; ".join(line.strip() for line in lines if " = " in line and "const @" not in line)


SWISH = "# x sigmoid(x) is Swish.\nrule silu [reassociating]:\n    given %x: float\n    %x * Sigmoid(%x)\n    => Swish(%x)\n"


@pytest.mark.parametrize("operands", ["%x, %s", "%s, %x"])
def test_commutative_operands_match_in_both_orders(operands: str) -> None:
    graph = f"graph @main(%x: f32[N]) -> (%y: f32[N]) {{\n  %s = Sigmoid(%x)\n  %y = Mul({operands})\n  return %y\n}}"
    assert rewritten(SWISH, graph) == "%y = Swish(%x) : f32[N]"


def test_an_inner_value_with_another_user_blocks_a_match() -> None:
    graph = "graph @main(%x: f32[N]) -> (%y: f32[N], %s: f32[N]) {\n  %s = Sigmoid(%x)\n  %y = Mul(%x, %s)\n  return %y, %s\n}"
    assert "the result of Sigmoid at <text>:2 is used elsewhere too" in rewritten(SWISH, graph, fires=False)
    shared = SWISH.replace("Sigmoid(%x)", "(shared Sigmoid(%x))")
    assert rewritten(shared, graph) == "%s = Sigmoid(%x) : f32[N]; %y = Swish(%x) : f32[N]"


def test_a_commutative_op_is_taken_back_when_something_later_fails() -> None:
    rules = (
        "# (a + b) * a is a a + a b.\nrule r [reassociating]:\n"
        "    given %a %b: float\n    (%a + %b) * %a\n    => %a * %a + %a * %b\n"
    )
    graph = "graph @main(%x: f32[N], %z: f32[N]) -> (%y: f32[N]) {\n  %s = Add(%z, %x)\n  %y = Mul(%s, %x)\n  return %y\n}"
    assert rewritten(rules, graph) == "%0 = Mul(%x, %x) : f32[N]; %1 = Mul(%x, %z) : f32[N]; %y = Add(%0, %1) : f32[N]"


@pytest.mark.parametrize(
    ("pattern", "constant", "fires"),
    [
        ("%x * 2", "f32[] = [2.0]", True),
        ("%x * 2", "f32[1,1,1] = [2.0]", False),  # it raises the rank of %x
        ("%x * 2", "f32[2] = [2.0, 2.0]", False),
        ("%x * 0", "f32[] = [-0.0]", False),
        ("%x * 0.1", "f32[] = [0.1]", True),  # rounded to f32 as the literal is
        ("%x * 0.1", "f32[] = [0.1001]", False),
        ("%x * 0.1~1e-2", "f32[] = [0.1001]", True),
        ("%x * 0.1~1e-12", "f32[] = [0.1]", True),  # rounded, and so further off than the tolerance
        ("%x * $s", "f32[1] = [7.0]", True),
    ],
)
def test_constants_match_by_value(pattern: str, constant: str, fires: bool) -> None:
    rules = f"# Stands for nothing.\nrule r [lossy]:\n    given %x: float\n    {pattern}\n    => -%x\n"
    graph = f"graph @main(%x: f32[N]) -> (%y: f32[*]) {{\n  %c = const @_ : {constant}\n  %y = Mul(%x, %c)\n  return %y\n}}"
    rewritten(rules, graph, fires=fires)


def test_attributes_that_are_not_mentioned_are_at_their_defaults() -> None:
    rules = "# Stands for nothing.\nrule r [lossy]:\n    Softmax(%x)\n    => -%x\n"
    graph = "graph @main(%x: f32[N,M]) -> (%y: f32[N,M]) {\n  %y = Softmax(%x) {axis=0}\n  return %y\n}"
    assert "has axis=0" in rewritten(rules, graph, fires=False)
    rewritten(rules, graph.replace("axis=0", "axis=-1"))
    rewritten(rules.replace("Softmax(%x)", "Softmax(%x) {...}"), graph)
    rewritten(rules.replace("Softmax(%x)", "Softmax(%x) {axis=$a}\n    where $a == 0"), graph)


def test_optional_operands_and_copied_attributes() -> None:
    rules = (
        "# A convolution is linear.\nrule r [reassociating]:\n    given %x %w %b: float\n"
        "    Neg(Conv(%x, %w, %b?) as %c)\n    => Conv(%x, -%w, -%b) {**%c, group=1}\n"
    )
    graph = (
        "graph @main(%x: f32[1,1,4], %w: f32[1,1,2], %b: f32[1]) -> (%y: f32[1,1,5]) {\n"
        "  %c = Conv(%x, %w, %b) {pads=[1,1]}\n  %y = Neg(%c)\n  return %y\n}"
    )
    with_bias = "%0 = Neg(%w) : f32[1,1,2]; %1 = Neg(%b) : f32[1]; %y = Conv(%x, %0, %1) {pads=[1, 1], group=1} : f32[1,1,5]"
    assert rewritten(rules, graph) == with_bias
    without = graph.replace(", %b: f32[1]", "").replace(", %b)", ")")
    assert "absent" in rewritten(rules.replace("-%b)", "-%b)"), without, fires=False)
    assert "%y = Conv(%x, %0)" in rewritten(rules.replace("-%b)", "%b)"), without)


def test_dims_must_be_proved_equal() -> None:
    rules = (
        "# Stands for nothing.\nrule r [lossy]:\n"
        "    given %a: float[N, M], %b: float[M, N]\n    MatMul(%a, %b)\n    => MatMul(%a, -%b)\n"
    )
    graph = "graph @main(%a: f32[K,L], %b: f32[L,K]) -> (%y: f32[*]) {\n  %y = MatMul(%a, %b)\n  return %y\n}"
    other = graph.replace("%b: f32[L,K]", "%b: f32[L,P]")
    assert "is not proved to agree on N" in rewritten(rules, other, fires=False).replace("which ", "")


@pytest.mark.parametrize(("divisors", "fires"), [("2.0, 4.0", True), ("2.0, 0.0", False), ("2.0, 200.0", False)])
def test_a_number_that_is_named_is_known_to_conditions_and_finite(divisors: str, fires: bool) -> None:
    rules = (
        "# x / d is x times the inverse.\nrule r [reassociating]:\n    given %x: float[_, _]\n    %x / %d\n"
        "    let $s = 1 / numbers(%d)\n    where constant(%d), all_of($s, 0.1, 1)\n    => %x * (1 / %d)\n"
    )
    graph = (
        "graph @main(%x: f32[N,2]) -> (%y: f32[N,2]) {\n"
        f"  %d = const @_ : f32[2] = [{divisors}]\n  %y = Div(%x, %d)\n  return %y\n}}"
    )
    assert ("Mul(%x" in rewritten(rules, graph, fires=fires)) == fires


def test_several_results() -> None:
    rules = (
        "# The two parts of a whole.\nrule r [exact]:\n    Split(Concat(%a, %b) {axis=0} as %c, [$n, $m]) {axis=0}\n"
        "    where dim(%a, 0) == $n, dim(%b, 0) == $m\n    => %a, %b\n"
    )
    graph = (
        "graph @main(%a: f32[2], %b: f32[3]) -> (%y: f32[*], %z: f32[*]) {\n"
        "  %p = const @_ : i64[2] = [2, 3]\n  %c = Concat(%a, %b) {axis=0}\n"
        "  %y, %z = Split(%c, %p) {axis=0}\n  return %y, %z\n}"
    )
    assert rewritten(rules, graph) == ""
    assert "does not hold" in rewritten(rules.replace("== $m", "== $n"), graph, fires=False)


HEAD = "# Says why.\nrule r [exact]:\n"


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("rule r [exact]:\n    Neg(%x)\n    => %x\n", "1:6", "rule 'r' has no comment"),
        ("# Says why.\nrule r [precise]:\n    Neg(%x)\n    => %x\n", "2:9", "there is no contract 'precise'"),
        (HEAD + "    Nog(%x)\n    => %x\n", "3:5", "ONNX has no op 'Nog' at opset 24"),
        (HEAD + "    Neg(%x, %x)\n    => %x\n", "3:5", "Neg is given 2 operands"),
        (HEAD + "    Softmax(%x) {axes=1}\n    => %x\n", "3:18", "Softmax has no attribute 'axes'"),
        (HEAD + "    Neg(%x)\n    => %y\n", "4:8", "%y is not bound by the pattern"),
        (HEAD + "    Neg(%x)\n    where $a > 1\n    => %x\n", "4:11", "$a is not bound by the pattern"),
        (HEAD + "    Neg(%x)\n    where N > 1\n    => %x\n", "4:11", "no dim is called N"),
        (HEAD + "    Neg(%x)\n    where konstant(%x)\n    => %x\n", "4:11", "there is no function 'konstant'"),
        (HEAD + "    Neg(%x)\n    where dim(%x)\n    => %x\n", "4:11", "'dim' is given 1 arguments"),
        (HEAD + "    Neg(%x)\n    where %x\n    => %x\n", "4:11", "`%x` is a value, not a condition"),
        (HEAD + "    given %z: float\n    Neg(%x)\n    => %x\n", "3:11", "%z is not in the pattern"),
        (HEAD + "    given %x: floaty\n    Neg(%x)\n    => %x\n", "3:11", "there is no type 'floaty'"),
        (HEAD + "    Neg(%x)\n    => Neg(%x) {**%c}\n", "4:8", "%c is no op of the pattern, so it has no attributes"),
        (HEAD + "    %x\n    => %x\n", "3:5", "a rule starts from the first result of an op"),
        (HEAD + "    Neg(%x) & 1\n    => %x\n", "3:13", "this character does not belong here"),
        (HEAD + "    Neg(%x)\n", "3:12", "the file ends in the middle of a rule"),
        (HEAD + "    Neg(%x)\n    => %x\n" + HEAD + "    Abs(%x)\n    => %x\n", "6:6", "rule 'r' exists already"),
        (HEAD + "    Neg(%x)\n    sample $q in [1]\n    => %x\n", "4:12", "$q is not in the rule"),
        (HEAD + "    Concat(%xs..., %y)\n    => %y\n", "3:12", "only the last operand may stand for several"),
        (HEAD + "    Softmax(%x) {axis=$a + 1}\n    => %x\n", "3:18", "an attribute is compared with a number, word or list"),
    ],
)
def test_a_mistake_is_shown_where_it_stands(text: str, where: str, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        read_rules(text, "bad.rules")
    assert caught.value.location == f"bad.rules:{where}"
    assert caught.value.message.startswith(message + "\n")
    line, column = map(int, where.split(":"))
    shown = text.splitlines()[line - 1] if line <= len(text.splitlines()) else ""
    assert caught.value.message.splitlines()[1:3] == [shown, " " * (column - 1) + caught.value.message.splitlines()[2].strip()]


def test_a_rule_for_more_results_than_an_op_has() -> None:
    rule = "# The mask of a Dropout that does nothing is all true.\nrule r [exact]:\n    Dropout(%x) => %x, Equal(%x, %x)\n"
    graph = "graph @g(%x: f32[2]) -> (%y: f32[2]) {\n  %y = Dropout(%x)\n  return %y\n}\n"
    assert "Dropout" not in rewritten(rule, graph)
