"""What a reader is told, on an exercise small enough to see all of it."""

import linecache

import pytest
import torch

from minimoe_course import Exercise, Law, Wrong, grade
from minimoe_course.checking import check, judge
from minimoe_course.exercise import find


def square(x_MD):
    """The answer key of these tests."""
    return x_MD * x_MD


def helper(x_MD):
    """Part of the answer key."""
    return x_MD + 0


def inputs(g):
    yield {"x_MD": torch.tensor([[2.0]])}
    yield {"x_MD": torch.tensor([[-1.0, 3.0]])}
    yield {"x_MD": torch.randn(3, 5, generator=g)}


def make(**changes):
    fields = dict(
        key="99.square", reference=square, inputs=inputs, tolerance=1e-6, because="one multiplication in float32",
        wrong=(
            Wrong("doubles", lambda x: 2 * x, "you double x."),
            Wrong("keeps", lambda x: x, "your result is the input."),
            Wrong("cubes", lambda x: x**3, "you have one factor too many."),
        ),
        laws=(Law("your result changes sign with x.", lambda f, case: torch.equal(f(case["x_MD"]), f(-case["x_MD"]))),),
        hints=("one", "two"), differs="It does not.",
    )  # fmt: skip
    return Exercise(**(fields | changes))


def told(fn, **changes):
    verdict = judge(make(**changes), fn)
    return verdict.message + verdict.example


def test_a_known_mistake_is_named_and_shown_on_the_smallest_input_where_it_fails(capsys):
    goes_on = check(make(), lambda x: 2 * x)
    assert goes_on is square
    assert capsys.readouterr().out.splitlines() == [
        "\u2717 square: you double x.",
        "    given    x_MD = [[-1, 3]]",  # doubling 2 is right by accident
        "    yours    [[-2, 6]]",
        "    library  [[1, 9]]",
    ]


def test_an_unknown_mistake_that_breaks_a_law_is_told_the_law():
    assert told(lambda x: x * x + x).startswith("your result changes sign with x.")


def test_any_other_mistake_is_described_by_its_numbers():
    assert told(lambda x: 3 * x * x).startswith("your result is 12 at [0, 0]; expected 4.")
    assert told(lambda x: x * x + x.abs()).startswith("your result is 6 at [0, 0]; expected 4.")
    assert told(lambda x: x * x * float("nan"), laws=()).startswith("your result holds NaN.")
    assert told(lambda x: (x * x)[0]).startswith("your result has shape (1,); expected (1, 1).")
    assert told(lambda x: (x * x, x)).startswith("you return a tuple of 2; expected a Tensor.")
    assert told(lambda x: "4", laws=()).startswith("your result is '4'; expected tensor")


def test_right_numbers_of_another_precision_are_said_to_be_that():
    assert told(lambda x: x.double() ** 2).startswith(
        "the numbers are right, but your result is float64; expected float32."
    )


def test_the_readers_exception_is_shown_with_the_line_of_their_cell():
    code = "def square(x_MD):\n    y_MD = x_MD * x_MD\n    return y_MD.fast()\n"
    linecache.cache["<cell 7>"] = (len(code), None, code.splitlines(keepends=True), "<cell 7>")
    names = {}
    exec(compile(code, "<cell 7>", "exec"), names)
    message = told(names["square"])
    assert message.startswith(
        "line 3 of the cell, `return y_MD.fast()`: AttributeError: 'Tensor' object has no attribute 'fast'"
    )
    assert "given    x_MD = [[2]]" in message


def test_a_function_that_gives_nothing_for_one_input_is_written_and_the_input_is_shown():
    verdict = judge(make(), lambda x: x * x if x.numel() != 2 else None)
    assert verdict.kind == "wrong" and verdict.message.startswith("your function gives nothing back for this input")
    assert verdict.example == "\n    given    x_MD = [[-1, 3]]"


@pytest.mark.parametrize("stub", [lambda x: None, lambda x: ..., lambda x: (x, ...), lambda x: x * ...])
def test_a_stub_is_unwritten_whichever_way_it_was_left(stub):
    assert judge(make(), stub).kind == "unwritten"


def test_a_stub_that_raises_not_implemented_is_unwritten():
    def stub(x):
        raise NotImplementedError

    assert judge(make(), stub).kind == "unwritten"


def test_writing_into_an_input_is_noticed_even_through_data_and_numpy():
    def through_data(x):
        x.data += 1
        return (x - 1) ** 2

    def through_numpy(x):
        x.numpy()[:] = 0
        return x

    assert "writes into its input x_MD" in told(through_data)
    assert "writes into its input x_MD" in told(through_numpy)
    assert "writes into its input x_MD" in told(lambda x: x.mul_(x))


def test_an_answer_that_returns_its_input_unchanged_is_not_called_an_edit():
    assert told(lambda x: x).startswith("your result is the input.")


def test_the_answer_key_is_seen_through_an_alias_and_through_a_try():
    def sly(x):
        try:
            return square(x)
        except BaseException:
            return x * x

    assert "which is the answer" in told(sly)


def test_forbidden_functions_of_torch_are_seen_whether_written_in_python_or_c():
    assert "which is the answer" in told(lambda x: torch.square(x), forbid=(torch.square,))
    assert "right" == judge(make(), lambda x: torch.square(x)).kind


def test_library_code_is_refused_unless_the_exercise_allows_it():
    from minimoe.model.layers import RMSNorm, at_least_float32

    def leans(x):
        return at_least_float32(x) ** 2

    assert told(leans).startswith("your function calls minimoe.model.layers.at_least_float32 of the library")
    assert judge(make(may_use=(at_least_float32,)), leans).kind == "right"
    assert judge(make(may_use=(RMSNorm,)), lambda x: x * x + 0 * RMSNorm(x.shape[-1])(x)).kind == "right"


def test_a_config_that_the_exercise_allows_may_be_asked_for_its_properties():
    import minimoe

    def cases(g):
        yield {"config": minimoe.NANO}

    fields = dict(reference=lambda config: config.qk_head_dim * 2, key="99.width", inputs=cases, laws=())
    assert "qk_head_dim of the library" in told(lambda config: config.qk_head_dim * 2, **fields)
    allowed = make(may_use=(minimoe.ModelConfig,), **fields)
    assert judge(allowed, lambda config: config.qk_head_dim * 2).kind == "right"


def test_a_copy_of_the_answer_keys_code_is_still_the_answer_key():
    import types

    assert "which is the answer" in told(types.FunctionType(square.__code__, {}))


def test_the_profile_hook_is_put_back_even_when_the_readers_code_raises():
    import sys

    hook = sys.getprofile()
    judge(make(), lambda x: x.nothing)
    assert sys.getprofile() is hook


def test_the_order_of_a_result_can_be_free():
    def pairs(g):
        yield {"x_MD": torch.randn(4, 6, generator=g)}

    def top_two(x_MD):
        return x_MD.topk(2).indices

    fields = dict(
        reference=top_two, inputs=pairs, key="99.top_two", canonical=lambda chosen: chosen.sort(-1).values, laws=()
    )
    assert judge(make(**fields), lambda x: x.topk(2).indices.flip(-1)).kind == "right"
    assert judge(make(**fields), lambda x: x.topk(2, largest=False).indices).kind == "wrong"


def test_parts_of_a_result_are_called_by_their_names():
    fields = dict(reference=lambda x: (x, x * x), returns=("gates_MK", "chosen_MK"), laws=())
    assert told(lambda x: (x, x * x + 1), **fields).startswith("chosen_MK is")
    assert "(gates_MK, chosen_MK)" in told(lambda x: x * x, **fields)


def test_a_random_function_is_compared_under_one_seed_and_the_notebooks_stream_does_not_move():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    noisy = make(reference=lambda x: x + torch.rand(x.shape), laws=())
    assert judge(noisy, lambda x: torch.rand(x.shape) + x).kind == "right"
    assert torch.equal(before, torch.random.get_rng_state())


def test_counting_exercises_compare_whole_numbers_exactly():
    def cases(g):
        yield {"layers": 61}

    count = make(key="99.count", reference=lambda n: 3 * n, inputs=cases, laws=())
    assert judge(count, lambda n: n + n + n).kind == "right"
    assert judge(count, lambda n: 3.0 * n).kind == "right"
    assert judge(count, lambda n: 3 * n + 1).message == "your result is 184; expected 183."


def test_something_that_is_no_function_is_said_to_be_that():
    assert told(4) == "expected a function, got int 4"


def test_grade_raises_what_check_would_print():
    grade(make(), lambda x: x * x)
    with pytest.raises(AssertionError, match="99.square: you double x."):
        grade(make(), lambda x: 2 * x)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"key": "square"}, "two digits"),
        ({"wrong": ()}, "at least 3"),
        ({"hints": ("one",)}, "has 1 hints"),
        ({"because": ""}, "has no reason"),
    ],
)
def test_an_incomplete_exercise_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_an_unknown_exercise_lists_the_known_ones():
    with pytest.raises(KeyError, match="01.rms_norm"):
        find("01.rmsnorm")
    with pytest.raises(KeyError, match="ch98.py"):
        find("98.square")
