import pytest

from graphrewrite.match import P
from graphrewrite.match.pattern import Anything, Const, Number, Op


def test_a_pattern_is_a_value() -> None:
    assert P.Relu(P.Conv(P.x, P.const("w"), ...)) == P.Relu(P.Conv(P.x, P.const("w"), ...))
    assert P.Relu(P.x) != P.Relu(P.y)
    assert hash(P.Relu(P.x)) == hash(P.Relu(P.x))


def test_names_start_lower_case_and_operators_are_called() -> None:
    assert P.x == Anything("x") and P.any == Anything()
    assert P.const("w") == Const("w") and P.number(0.5, "half") == Number(0.5, "half")
    drawn = P.Conv(P.x, None, ..., group=1)
    assert isinstance(drawn, Op)
    assert (drawn.op_types, drawn.inputs, drawn.open_ended) == (("Conv",), (Anything("x"), None), True)
    assert drawn.attributes == (("group", 1),)


def test_naming_and_outputs_leave_the_drawing_alone() -> None:
    drawn = P.Split(P.x)
    assert drawn.named("s").name == "s" and drawn.out(2).output == 2
    assert (drawn.name, drawn.output) == ("", 0)


def test_depth_is_the_longest_path() -> None:
    assert P.x.depth == 0
    assert P.Relu(P.x).depth == 1
    assert P.Add(P.Relu(P.Exp(P.x)), P.x).depth == 3
    assert P.one_of(P.x, P.Relu(P.x)).depth == 1


def test_further_inputs_stand_last() -> None:
    with pytest.raises(TypeError, match="last argument"):
        P.Conv(P.x, ..., P.w)


def test_one_node_of_several_types() -> None:
    assert P.op(("Relu", "Clip"), P.x, ...).op_types == ("Relu", "Clip")
