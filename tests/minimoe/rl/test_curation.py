"""Training texts made of answers: only right ones, rewritten or as they are, and never more than asked for."""

from minimoe.rl.curation import cold_start, demonstrations, verified
from minimoe.rl.general import Letters, Requests, refuses
from minimoe.rl.rollout import Answer, Group
from minimoe.rl.tasks import Question
from minimoe.rl.words import WordProblems
from minimoe.training.reasoning import document, is_held_out, split_response

TASK = WordProblems()
PROBLEM = "小明有3个苹果。他买4个。他丢2个。有几个苹果？"
GOOD, ENGLISH = TASK.think(PROBLEM, summary=True), TASK.think(PROBLEM, "en", summary=True)


def group(*texts, ended=True):
    return Group(Question(TASK, PROBLEM), [], [Answer([], [], text, ended) for text in texts])


def test_a_right_answer_that_thought_is_rewritten_in_the_problems_language():
    wanted = [document(PROBLEM, GOOD)]
    assert cold_start([group("9", TASK.think(PROBLEM, "en"))], 5, translated=1.0) == wanted
    assert cold_start([group(TASK.think(PROBLEM, ["en", "zh", "en"]))], 5, translated=1.0) == wanted


def test_a_thought_that_is_not_translated_keeps_the_language_that_most_of_it_is_in():
    kept = [document(PROBLEM, ENGLISH)]
    for languages in ("en", ["en", "zh", "en"]):
        assert cold_start([group(TASK.think(PROBLEM, languages))], 5, translated=0.0) == kept
    assert cold_start([group(TASK.think(PROBLEM))], 5, translated=0.0) == [document(PROBLEM, GOOD)]
    both = cold_start([group(TASK.think(PROBLEM, "en"))] * 200, 200, translated=0.5)
    assert 60 < both.count(kept[0]) < 140 and set(both) == {kept[0], document(PROBLEM, GOOD)}


def test_wrong_lazy_and_unfinished_answers_make_no_cold_start():
    assert cold_start([group(TASK.skip(PROBLEM), "5", GOOD.replace("5", "6"))], 5) == []
    assert cold_start([group(GOOD, ended=False)], 5) == []
    assert len(cold_start([group(GOOD)] * 4, 3)) == 3


def test_verified_answers_are_kept_as_they_are_and_at_most_two_a_question():
    other = GOOD.replace("买四", "买三")  # what a thought says is not checked; that it leads to the answer is
    assert verified([group(GOOD, GOOD)], 5) == [document(PROBLEM, GOOD)]
    assert verified([group(GOOD, other, GOOD.replace("丢二", "丢三"))], 5) == [
        document(PROBLEM, t) for t in (GOOD, other)
    ]
    assert len(verified([group(GOOD)] * 4, 3)) == 3


def test_what_is_wrong_unreadable_mixed_or_unfinished_is_not_kept():
    mixed = TASK.think(PROBLEM, ["en", "zh", "zh"], summary=True)
    for text in (ENGLISH, mixed, TASK.think(PROBLEM), TASK.skip(PROBLEM, summary=True), GOOD.replace("5", "6")):
        assert verified([group(text)], 5) == []
    assert verified([group(GOOD, ended=False)], 5) == []


def test_demonstrations_refuse_what_is_forbidden_and_some_letters_are_careless():
    texts, letters, requests = demonstrations(200, 0), Letters(), Requests()
    assert texts == demonstrations(200, 0) != demonstrations(200, 1)
    qualities = []
    for text in texts:
        problem, response = text.removeprefix("<｜User｜>").split("<｜Assistant｜>")
        assert not is_held_out(problem)
        try:
            qualities.append(letters.quality(problem, response))
        except ValueError:
            assert refuses(response) == requests.is_forbidden(problem)
            assert requests.is_correct(problem, response)
        assert split_response(response)[0] == ""
    assert min(qualities) < 0.7 and 0.3 < qualities.count(1.0) / len(qualities) < 0.7
