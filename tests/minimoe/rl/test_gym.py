"""reasoning-gym's datasets as tasks, against a module with its interface: the real package is an extra."""

import pickle
import random
import sys
from types import SimpleNamespace

import pytest

from minimoe.rl.gym import EVALUATING, Gym
from minimoe.rl.tasks import Question, Questions, Task
from minimoe.training.reasoning import draw_problems, is_held_out


class Doubling:
    """A dataset as reasoning-gym makes them: entries by index, from the seed, and a score between 0 and 1."""

    def __init__(self, size, seed, highest=1000):
        self.size, self.seed, self.highest = size, seed, highest

    def __getitem__(self, index):
        if not 0 <= index < self.size:
            raise IndexError(index)
        number = random.Random(self.seed + index).randrange(self.highest)
        return {"question": f"Twice {number}?", "answer": str(2 * number), "metadata": {"number": number}}

    def score_answer(self, answer, entry):
        difference = abs(int(answer) - 2 * entry["metadata"]["number"])
        return {0: 1.0, 1: 0.5}.get(difference, 0.01)


@pytest.fixture(autouse=True)
def package(monkeypatch):
    made = []

    def create_dataset(name, **config):
        made.append((name, config))
        return Doubling(**config)

    monkeypatch.setitem(sys.modules, "reasoning_gym", SimpleNamespace(create_dataset=create_dataset))
    return made


def test_a_dataset_is_a_task_and_its_arguments_are_passed_on(package):
    gym = Gym("doubling", size=20, seed=3, config={"highest": 50})
    assert isinstance(gym, Task) and gym.name == "doubling" and package == []
    problem = gym.draw(random.Random(0))
    assert package == [("doubling", {"size": 20, "seed": 3, "highest": 50})]
    assert problem in {Doubling(20, 3, 50)[i]["question"] for i in range(20)}


def test_the_answer_after_the_thought_is_what_is_judged():
    gym = Gym("doubling")
    problem = gym.draw(random.Random(1))
    right = gym.entries[problem]["answer"]
    assert gym.is_correct(problem, f"<think>0</think> {right}\n") and gym.is_correct(problem, right)
    assert not gym.is_correct(problem, f"<think>{right}</think>0")


def test_a_part_of_the_point_is_a_score_and_not_correct():
    gym = Gym("doubling")
    problem = gym.draw(random.Random(1))
    close = str(int(gym.entries[problem]["answer"]) + 1)
    assert gym.score(problem, close) == 0.5 and not gym.is_correct(problem, close)


def test_an_answer_that_the_verifier_cannot_read_is_wrong():
    gym = Gym("doubling")
    assert gym.score(gym.draw(random.Random(1)), "<think></think>many") == 0.0


def test_draws_follow_from_the_generator_and_reach_every_entry():
    gym = Gym("doubling", size=5)
    draws = [gym.draw(rng) for rng in [random.Random(2)] for _ in range(100)]
    assert draws == [gym.draw(rng) for rng in [random.Random(2)] for _ in range(100)]
    assert set(draws) == set(gym.entries)


def test_two_entries_with_one_question_count_as_the_first():
    gym = Gym("doubling", size=50, config={"highest": 3})
    assert len(gym.entries) <= 3 and all(gym.is_correct(q, e["answer"]) for q, e in gym.entries.items())


def test_equal_arguments_are_the_same_task_and_a_harder_one_is_another():
    easy, again, hard = (Gym("doubling", config={"highest": n}) for n in (9, 9, 99))
    assert easy == again and hash(easy) == hash(again) and easy != hard
    assert pickle.loads(pickle.dumps(easy)) == easy


def test_it_mixes_with_other_tasks_and_keeps_to_its_side_of_the_split():
    gym = Gym("doubling")
    questions = Questions({gym: 1.0, Gym("doubling", seed=1): 1.0}, seed=0).draw(step=1, count=20)
    assert all(isinstance(q, Question) and not is_held_out(q.problem) for q in questions)
    assert all(q.task.is_correct(q.problem, q.task.entries[q.problem]["answer"]) for q in questions)
    assert all(is_held_out(problem) for problem in draw_problems(gym, 5, seed=0, held_out=True))


def test_a_problem_of_another_dataset_is_an_error_that_names_both():
    with pytest.raises(ValueError, match="'2 \\+ 2' is none of the .* questions of Gym.*doubling"):
        Gym("doubling").is_correct("2 + 2", "4")


def test_without_the_package_the_error_has_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ImportError, match=r'pip install "minimoe\[gym\]"'):
        Gym("doubling").draw(random.Random(0))


def test_there_is_nothing_to_learn_from_but_the_verifier():
    gym = Gym("doubling")
    with pytest.raises(ValueError, match="no thoughts"):
        gym.think("Twice 2?")
    with pytest.raises(ValueError, match="no responses"):
        gym.skip("Twice 2?")


@pytest.mark.parametrize("name", sorted(EVALUATING))
def test_a_verifier_that_runs_answers_as_code_is_used_on_request_only(name):
    with pytest.raises(ValueError, match=f"verifier of '{name}' runs answers as Python code"):
        Gym(name)
    assert Gym(name, evaluate=True).name == name


def test_an_empty_dataset_is_an_error():
    with pytest.raises(ValueError, match="size=0: a dataset has at least 1 entry"):
        Gym("doubling", size=0)
