"""Word problems: exact in both languages, thoughts in either or both, and wrong answers that must fail."""

import random

import pytest

from minimoe.rl.tasks import Task
from minimoe.rl.vocabulary import words_tokenizer
from minimoe.rl.words import LANGUAGES, NUMBERS, WordProblems, language_of, language_share
from minimoe.training.reasoning import document, draw_problems, encode_document, is_held_out, split_response

TASK = WordProblems()
ENGLISH = "Tom has 3 apples. He buys 4. He loses 2. How many apples?"
CHINESE = "小明有3个苹果。他买4个。他丢2个。有几个苹果？"


def drawn(count=300, **numbers):
    task, rng = WordProblems(**numbers), random.Random(0)
    return task, [task.draw(rng) for _ in range(count)]


def test_it_is_a_task():
    assert isinstance(TASK, Task) and TASK.name == "words"


def test_the_examples_of_the_module_are_what_it_makes():
    assert TASK.think(ENGLISH, summary=True) == (
        "<think>Has three, buys four is seven, loses two is five.</think>5 apples."
    )
    assert TASK.think(CHINESE, summary=True) == "<think>先有三，买四是七，丢二是五。</think>5个苹果。"


def test_corresponding_problems_are_the_same_problem():
    english, chinese = TASK.read(ENGLISH), TASK.read(CHINESE)
    assert (english.first, english.steps) == (chinese.first, chinese.steps)
    assert TASK.think(ENGLISH, "zh") == TASK.think(CHINESE) and TASK.think(CHINESE, "en") == TASK.think(ENGLISH)


def test_every_running_value_is_one_digit_and_every_sign_occurs():
    task, problems = drawn(steps=6)
    stories = [task.read(problem) for problem in problems]
    assert all(len(story.steps) == 6 and 0 <= step.value <= 9 for story in stories for step in story.steps)
    assert {step.sign for story in stories for step in story.steps} == set("+-*")
    assert {story.language for story in stories} == set(LANGUAGES)
    assert {story.answer for story in stories} == set(range(10))


def test_full_and_lazy_responses_are_right_in_either_language():
    task, problems = drawn()
    for problem in problems:
        for response in (
            task.think(problem), task.think(problem, "en"), task.think(problem, "zh"), task.skip(problem),
            task.think(problem, summary=True), task.skip(problem, summary=True),
        ):  # fmt: skip
            assert task.is_correct(problem, response)
        thought = split_response(task.think(problem))[0]
        assert [NUMBERS[task.language(problem)][step.value] in thought for step in task.read(problem).steps]


@pytest.mark.parametrize(
    "response",
    [
        "<think></think>6",
        "<think></think>15",
        "<think></think>5 coins.",
        "<think></think>five",
        "<think></think>5 apples. 6 apples.",
        "<think></think>",
        "<think>is five.",
        "<think>is five.</think>",
        "<think>5</think>4",
        "5 5",
        "-5",
        "5.0",
    ],
)
def test_a_wrong_answer_is_wrong_whatever_was_thought(response):
    assert not TASK.is_correct(ENGLISH, response)


@pytest.mark.parametrize("answer", ["5", "5 apples.", "5个苹果。"])
def test_the_right_number_is_right_alone_or_with_what_it_counts(answer):
    assert TASK.is_correct(ENGLISH, f"<think></think>{answer}") and TASK.is_correct(CHINESE, answer)


def test_readable_means_a_thought_and_a_phrase_in_the_problems_language():
    assert TASK.is_readable(ENGLISH, TASK.think(ENGLISH, summary=True))
    assert TASK.is_readable(ENGLISH, "<think>zero</think>9 apples.")  # readable and wrong
    for response in (TASK.think(ENGLISH), TASK.skip(ENGLISH, summary=True), "<think>a</think>5个苹果。", "5 apples."):
        assert not TASK.is_readable(ENGLISH, response)


def test_a_thought_may_change_its_language():
    response = TASK.think(CHINESE, ["zh", "en", "zh"])
    assert response == "<think>先有三， buys four is seven,丢二是五。</think>5"
    assert TASK.is_correct(CHINESE, response)
    assert 0 < language_share(split_response(response)[0], "zh") < 1


@pytest.mark.parametrize("language", [["en"], ["en", "zh"], "fr", ["en", "zh", "fr"]])
def test_other_languages_and_numbers_of_them_are_refused(language):
    with pytest.raises(ValueError, match="expected en or zh"):
        TASK.think(CHINESE, language)


def test_the_share_of_a_language_counts_words():
    assert language_share("Has three, buys four", "en") == 1
    assert language_share("先有三，买四", "zh") == 1
    assert language_share("买四 is seven", "zh") == 0.5
    assert language_share("7 = 7, ?", "en") == 0 == language_share("", "zh")
    with pytest.raises(ValueError, match="'fr'"):
        language_share("trois", "fr")


def test_the_language_of_a_problem():
    assert TASK.language(ENGLISH) == "en" and TASK.language(CHINESE) == "zh" and language_of("7") == "en"
    assert all(WordProblems(chinese=0.0).language(p) == "en" for p in drawn(50, chinese=0.0)[1])
    assert all(WordProblems(chinese=1.0).language(p) == "zh" for p in drawn(50, chinese=1.0)[1])


@pytest.mark.parametrize("problem", ["", "7 + 3", ENGLISH + " ", ENGLISH.replace("buys", "eats"), CHINESE[:-1], "Tom"])
def test_another_text_is_refused(problem):
    with pytest.raises(ValueError, match="story"):
        TASK.read(problem)


@pytest.mark.parametrize("numbers", [{"steps": 0}, {"chinese": -0.1}, {"chinese": 1.5}])
def test_numbers_that_make_no_sense_are_refused(numbers):
    with pytest.raises(ValueError, match=str(list(numbers.values())[0])):
        WordProblems(**numbers)


def test_training_and_held_out_problems_are_disjoint():
    training, held_out = (set(draw_problems(TASK, 200, 0, held_out=side)) for side in (False, True))
    assert not training & held_out
    assert all(map(is_held_out, held_out)) and not any(map(is_held_out, training))


def test_every_step_takes_five_tokens_in_both_languages_and_values_are_single_tokens():
    tokenizer = words_tokenizer()
    for chinese in (0.0, 1.0):
        short, long = (drawn(1, steps=steps, chinese=chinese) for steps in (2, 6))
        prompts, thoughts = [], []
        for task, (problem,) in (short, long):
            prompts.append(len(tokenizer.encode(problem)))
            thoughts.append(len(tokenizer.encode(split_response(task.think(problem))[0])))
        assert prompts[1] - prompts[0] == thoughts[1] - thoughts[0] == 4 * 5
    words = [f" {word}" for word in NUMBERS["en"]] + list(NUMBERS["zh"]) + list("0123456789")
    assert all(len(tokenizer.encode(word)) == 1 for word in words)


def test_a_document_is_short_and_comes_back_from_the_tokenizer():
    tokenizer, (task, problems) = words_tokenizer(), drawn()
    assert tokenizer.vocab_size < 680
    for problem in problems:
        text = document(problem, task.think(problem, summary=True))
        tokens = encode_document(tokenizer, text)
        assert len(tokens) < 72 and tokenizer.decode(tokens[1:-1]) == text
        assert all("\ufffd" not in tokenizer.decode([token]) for token in tokens)
