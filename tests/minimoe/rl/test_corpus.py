"""The corpus of the R1 base: shares, habits, and nothing that is held out."""

import pytest

from minimoe.rl.corpus import CHINESE, ENGLISH, HABIT, KINDS, SKILL, draw_corpus
from minimoe.rl.words import language_share
from minimoe.tokenizer import SPECIAL_TOKENS
from minimoe.training.reasoning import is_held_out, split_response

USER, ASSISTANT = SPECIAL_TOKENS[6:8]


def parts(text):
    problem, response = text.removeprefix(USER).split(ASSISTANT)
    return problem, response


@pytest.mark.parametrize("mixture", [SKILL, HABIT], ids=["skill", "habit"])
def test_the_shares_of_a_mixture_make_one_whole_of_known_kinds(mixture):
    assert sum(mixture.values()) == pytest.approx(1.0) and set(mixture) <= set(KINDS)


@pytest.mark.parametrize("mixture", [SKILL, HABIT], ids=["skill", "habit"])
def test_no_problem_of_a_corpus_is_held_out_and_a_seed_fixes_it(mixture):
    texts = draw_corpus(mixture, 300, seed=3)
    assert len(texts) == 300 and not any(is_held_out(parts(text)[0]) for text in texts)
    assert texts == draw_corpus(mixture, 300, seed=3) != draw_corpus(mixture, 300, seed=4)


@pytest.mark.parametrize("kind, task", [("en", ENGLISH), ("zh", CHINESE), ("zh in en", CHINESE), ("zh mixed", CHINESE)])
def test_every_worked_answer_is_right(kind, task):
    for text in draw_corpus({kind: 1.0}, 40, seed=1):
        problem, response = parts(text)
        assert task.is_correct(problem, response), text


def test_the_kinds_think_in_the_language_that_they_are_named_for():
    def shares(kind, language):
        thoughts = [split_response(parts(text)[1])[0] for text in draw_corpus({kind: 1.0}, 40, seed=2)]
        return [language_share(thought, language) for thought in thoughts]

    assert min(shares("en", "en")) == 1 and min(shares("zh", "zh")) == 1 and max(shares("zh in en", "zh")) == 0
    mixed = shares("zh mixed", "zh")
    assert any(0 < share < 1 for share in mixed)


def test_the_habit_mostly_skips_the_thought_and_the_skill_never_does():
    def thinking(mixture):
        words = {kind: share for kind, share in mixture.items() if kind.startswith(("en", "zh"))}
        texts = draw_corpus(words, 400, seed=5)
        return sum(bool(split_response(parts(text)[1])[0]) for text in texts) / 400

    assert thinking(SKILL) == 1 and thinking(HABIT) < 0.35


def test_nothing_in_a_corpus_refuses():
    from minimoe.rl.general import REFUSAL

    assert not any(REFUSAL in text for text in draw_corpus(HABIT, 600, seed=6) + draw_corpus(SKILL, 600, seed=6))


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="no kind of document is called 'poems'; there are en, "):
        draw_corpus({"poems": 1.0}, 3, seed=0)
