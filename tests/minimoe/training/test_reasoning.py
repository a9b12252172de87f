"""Arithmetic tasks: what a trace says, what a verifier accepts, the split, the seeds, and the two corpora."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimoe.training.reasoning import (
    Chain,
    Clock,
    byte_tokenizer,
    document,
    draw_documents,
    draw_problems,
    encode_document,
    encode_prompt,
    is_held_out,
    split_response,
)

TASKS = [Chain(), Clock()]
TASK = pytest.mark.parametrize("task", TASKS, ids=["chain", "clock"])


def drawn(task, seed=0):
    return task.draw(random.Random(seed))


def test_a_chain_worked_by_hand():
    problem = "7 + 3 * 4 - 2"
    assert Chain().think(problem) == "<think>7+3=0*4=0-2=8</think>8"  # 10 -> 0; 0; -2 -> 8
    assert Chain().skip(problem) == "<think></think>8"


def test_a_chain_knows_no_precedence():
    assert split_response(Chain().think("2 + 3 * 4"))[1] == "0"  # (2 + 3) * 4 = 20, and not 14


def test_a_search_worked_by_hand():
    assert Clock().think("3 ? 4 ? 2 = 9") == "<think>3+4=7+2=9-9=0ydone</think>3+4=7+2=9"
    three = "<think>3+4=7+2=9-5=4xwait,3-4=9+2=1-5=6xwait,3+4=7-2=5-5=0ydone</think>3+4=7-2=5"
    assert Clock().think("3 ? 4 ? 2 = 5") == three
    assert Clock().skip("3 ? 4 ? 2 = 5") == "<think>3+4=7+2=9-5=4xdone</think>3+4=7+2=9"


@given(st.integers(0, 10**6))
def test_the_answer_and_the_next_attempt_are_copied_from_one_distance(seed):
    """From "-9=4x" on, "wait," and "done</think>" are five tokens each."""
    tokenizer = byte_tokenizer()
    wait, done = (tokenizer.encode(text, special=True) for text in ("wait,", "done</think>"))
    assert len(wait) == len(done)
    thought, answer = split_response(Clock().think(drawn(Clock(), seed)))
    assert thought.endswith("done") and thought.removesuffix("done").split("wait,")[-1].startswith(answer)


def test_a_search_that_hits_at_once_has_nothing_to_skip():
    assert Clock().skip("3 ? 4 ? 2 = 9") == Clock().think("3 ? 4 ? 2 = 9")


def test_attempts_come_in_one_fixed_order():
    assert [signs for signs, _ in Clock().attempts("5 ? 5 ? 1 = 9")] == ["++", "-+", "+-"]  # 11, 1, 9
    assert [signs for signs, _ in Clock().attempts("1 ? 1 ? 1 = 9")] == ["++", "-+", "+-", "--"]


@given(st.integers(0, 10**6))
def test_a_chains_value_is_that_of_plain_integers(seed):
    """Arithmetic on whole numbers, reduced once at the end, by Python's own evaluation."""
    problem = drawn(Chain(), seed)
    digits, operations = problem.split(" ")[::2], problem.split(" ")[1::2]
    nested = digits[0]
    for operation, digit in zip(operations, digits[1:], strict=True):
        nested = f"({nested} {operation} {digit})"
    assert split_response(Chain().think(problem))[1] == str(eval(nested) % 10)


@given(st.integers(0, 10**6))
def test_every_step_of_a_trace_is_true(seed):
    for task in TASKS:
        thought = split_response(task.think(drawn(task, seed)))[0]
        for attempt in thought.removesuffix("done").split("wait,"):
            value = int(attempt[0])
            for operation, digit, result in re.findall(r"([-+*])(\d)=(\d)", attempt):
                value = eval(f"{value}{operation}{digit}") % 10
                assert value == int(result)
            if task.name == "clock":  # the last step takes the target away: nothing is left of a hit
                assert attempt[-1] == ("x" if value else "y")


@given(st.integers(0, 10**6))
def test_the_verifier_accepts_the_full_response_and_ignores_the_thought(seed):
    for task in TASKS:
        problem = drawn(task, seed)
        thought, answer = split_response(task.think(problem))
        assert task.is_correct(problem, task.think(problem))
        assert task.is_correct(problem, answer) and task.is_correct(problem, f"<think>nonsense</think>{answer}")
        assert task.is_correct(problem, f"{answer}<｜end▁of▁sentence｜>")


@given(st.integers(0, 10**6))
def test_exactly_one_digit_is_right(seed):
    problem = drawn(Chain(), seed)
    assert sum(Chain().is_correct(problem, f"<think></think>{digit}") for digit in range(10)) == 1


@pytest.mark.parametrize(
    "response",
    ["", "<think>8</think>", "<think>7+3=0*4=0-2=8", "88", "8 ", " 8", "08", "-8", "8.", "٨", "<think></think>\n8"],
)
def test_a_chains_verifier_accepts_nothing_but_the_digit(response):
    assert Chain().is_correct("7 + 3 * 4 - 2", "8")
    assert not Chain().is_correct("7 + 3 * 4 - 2", response)


def test_any_signs_that_reach_the_target_are_right():
    for answer in ("5+5=0+0=0", "5-5=0-0=0"):
        assert Clock().is_correct("5 ? 5 ? 0 = 0", answer)


WRONG = ["3+4=7+2=9", "4+3=7-2=5", "3+4=7-2=5-0=5", "3+4=7", "3+4=6-2=5", "3+4=7-2=6", "3*4=2-7=5", "5", ""]
WRONG += ["3+4=7-2=5y", "3 + 4 = 7 - 2 = 5", "3+4-2", "3+4=7-2=\u0665"]


@pytest.mark.parametrize("answer", WRONG)
def test_a_searchs_verifier_refuses_wrong_values_digits_and_forms(answer):
    assert Clock().is_correct("3 ? 4 ? 2 = 5", "3+4=7-2=5")
    assert not Clock().is_correct("3 ? 4 ? 2 = 5", answer)


def test_a_thought_that_is_not_closed_is_no_thought():
    assert split_response("<think>7+3=0") == (None, "<think>7+3=0")
    assert split_response("<think></think>8") == ("", "8")
    assert split_response("8<｜end▁of▁sentence｜>") == (None, "8")
    assert split_response("<think>a</think>b</think>c") == ("a", "b</think>c")


@TASK
def test_one_problem_in_ten_is_held_out_and_no_corpus_has_it(task):
    problems = {drawn(task, seed) for seed in range(3000)}
    share = sum(map(is_held_out, problems)) / len(problems)
    assert 0.08 < share < 0.12  # about 2,900 problems at 0.1: standard deviation 0.006
    kept = draw_problems(task, 300, seed=7, held_out=True)
    for seed in range(3):
        texts = draw_documents(task, 500, seed, lazy=0.5, bare=0.1)
        seen = {re.search("<｜User｜>(.*)<｜Assistant｜>", text)[1] for text in texts}
        assert len(seen) == 500 and seen & set(kept) == set()


@TASK
def test_the_seed_fixes_the_corpus(task):
    first, again, other = (draw_documents(task, 50, seed, lazy=0.5) for seed in (3, 3, 4))
    assert first == again and first != other


@TASK
def test_full_skill_has_no_lazy_document(task):
    for text in draw_documents(task, 100, seed=0):
        problem, response = re.fullmatch("<｜User｜>(.*)<｜Assistant｜>(.*)", text).groups()
        assert response == task.think(problem)


@TASK
def test_the_lazy_habit_has_the_shares_that_were_asked_for(task):
    kinds = {"think": 0, "skip": 0, "bare": 0}
    for text in draw_documents(task, 2000, seed=1, lazy=0.6, bare=0.1):
        problem, response = re.fullmatch("<｜User｜>(.*)<｜Assistant｜>(.*)", text).groups()
        if split_response(response)[0] is None:
            kinds["bare"] += 1
            assert response == split_response(task.skip(problem))[1]
        else:
            lazy = response == task.skip(problem)
            assert lazy or response == task.think(problem)
            kinds["skip" if lazy else "think"] += 1
    assert 160 < kinds["bare"] < 240  # 2,000 at 0.1: mean 200, standard deviation 13
    if task.name == "chain":
        assert 1110 < kinds["skip"] < 1290  # at 0.6: mean 1,200, standard deviation 22
    else:
        assert kinds["skip"] > 1110, "a search that hits at once counts as both"


def test_documents_are_short_and_chains_all_of_one_length():
    tokenizer = byte_tokenizer()
    chains = {len(encode_document(tokenizer, text)) for text in draw_documents(Chain(), 200, seed=0)}
    assert chains == {57}  # 4 marks around, 25 bytes of problem, 25 of thought, 2 of tags, 1 of answer
    clocks = [len(encode_document(tokenizer, text)) for text in draw_documents(Clock(), 200, seed=0)]
    assert sum(clocks) / 200 < 110 and max(clocks) < 224


def test_the_distance_from_problem_to_trace_is_the_same_in_every_step():
    text = document("1 + 2 - 3 * 4", Chain().think("1 + 2 - 3 * 4"))
    ids = encode_document(byte_tokenizer(), text)
    shown = byte_tokenizer().decode
    for operation in "+-*":
        first, second = (i for i, token in enumerate(ids) if shown([token]) == operation)
        assert second - first == 14


def test_one_byte_is_one_token_and_the_marks_are_single_tokens():
    tokenizer = byte_tokenizer()
    assert tokenizer.vocab_size == 266 and tokenizer.merges == []
    ids = encode_document(tokenizer, document("1 + 2", "<think>1+2=3</think>3"))
    assert len(ids) == 1 + 1 + 5 + 1 + 1 + 5 + 1 + 1 + 1
    assert ids[:2] == [0, 6] and ids[7:9] == [7, 8] and ids[-3] == 9 and ids[-1] == 1
    assert encode_prompt(tokenizer, "1 + 2") == ids[:8]


@pytest.mark.parametrize("problem", ["", "7", "7+3", "7 + 3 *", "7 + 33", "7 / 3", "7 + 3\n"])
def test_a_text_that_is_no_chain_is_refused_by_name(problem):
    with pytest.raises(ValueError, match="is not a chain like"):
        Chain().think(problem)


@pytest.mark.parametrize("problem", ["", "3 ? 4", "3 ? 4 = 12", "3 + 4 = 7", "3 ? 4 = 7\n"])
def test_a_text_that_is_no_search_is_refused_by_name(problem):
    with pytest.raises(ValueError, match="is not a problem like"):
        Clock().think(problem)


def test_a_search_without_a_solution_says_so():
    with pytest.raises(ValueError, match="'1 . 1 = 5' has no solution"):
        Clock().think("1 ? 1 = 5")


def test_sizes_and_shares_that_make_no_sense_are_named():
    with pytest.raises(ValueError, match="operations=0"):
        Chain(operations=0)
    with pytest.raises(ValueError, match="numbers=1"):
        Clock(numbers=1)
    for shares in ({"lazy": 1.1}, {"lazy": -0.1}, {"lazy": 0.6, "bare": 0.5}):
        with pytest.raises(ValueError, match=f"lazy={shares['lazy']}"):
            draw_documents(Chain(), 1, 0, **shares)


def test_asking_for_more_problems_than_there_are_says_how_many_were_found():
    with pytest.raises(ValueError, match=r"Clock\(numbers=2\) gave \d+ different problems held out, 500 were"):
        draw_problems(Clock(numbers=2), 500, seed=0, held_out=True)
