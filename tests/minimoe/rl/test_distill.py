"""Distillation: what is kept of a teacher's answers, what the student learns from it, and what is refused."""

import dataclasses
import json
import math

import pytest
import torch
from tiny_policy import CONFIG, TOKENIZER, Digit

import minimoe
from minimoe.rl.distill import (
    Sample,
    Sampling,
    distill,
    divergence,
    harvest,
    keep_verified,
    students_to_pay,
    teach,
)
from minimoe.rl.rollout import Answer, Group
from minimoe.rl.tasks import Question
from minimoe.tokenizer import Tokenizer
from minimoe.training import Settings
from minimoe.training.reasoning import document, encode_document, is_held_out
from minimoe.training.responses import ResponseLearner, response_loss

TASK = Digit(2)
DENSE = dataclasses.replace(
    CONFIG, vocab_size=266, n_routed_experts=None, first_k_dense_replace=2, initializer_range=0.02
)
FEW = Sampling(problems=12, answers=5, max_new_tokens=4, seed=3)
SHORT = Settings(steps=3, lr=1e-2, balance="none")


def answers(*texts, ended=True):
    return [Answer([1], [0.0], text, ended) for text in texts]


def group(problem, *given):
    return Group(Question(TASK, problem), [0], list(given))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A student that knows nothing, and a teacher that learned to answer with the last digit, thinking or not."""
    teacher, student = tmp_path_factory.mktemp("teacher"), tmp_path_factory.mktemp("student")
    for folder, seed in ((teacher, 0), (student, 1)):
        model = ResponseLearner(dataclasses.replace(DENSE, intermediate_size=36 + 8 * seed), seed=seed)
        if folder is teacher:
            rows = [Sample(p, f"{t}{p[-1]}") for p in map(str, range(10)) for t in ("<think></think>", "")]
            teach(model, TOKENIZER, rows * 4, Settings(steps=40, lr=2e-2, balance="none"))
        minimoe.save(model, folder, dtype=torch.bfloat16)
        TOKENIZER.save(folder)
    return teacher, student


def test_right_answers_are_kept_once_and_in_their_order():
    given = [*answers("7", "<think>a</think>3", "3", "<think>a</think>3"), *answers("<think></think>3", ended=False)]
    found = keep_verified([group("5 3", *given), group("4", *answers("7", "8"))], per_problem=5)
    assert found.samples == [Sample("5 3", "<think>a</think>3"), Sample("5 3", "3")]
    assert found.describe() == {"kept": 2, "answers": 7, "approved": 3, "different": 2, "unsolved": 1}
    assert found.approved_share == 3 / 7


def test_no_more_than_so_many_are_kept_of_one_problem():
    groups = [group("5 3", *answers("3", "<think></think>3")), group("4", *answers("4"))]
    found = keep_verified(groups, per_problem=1)
    assert [sample.response for sample in found.samples] == ["3", "4"]
    assert found.different == 3


def test_another_rule_keeps_other_answers():
    def thinks(question, answer):
        return float("<think>" in answer.text)

    found = keep_verified([group("5 3", *answers("3", "<think>5</think>9"))], rule=thinks)
    assert found.samples == [Sample("5 3", "<think>5</think>9")]


def test_a_harvest_asks_training_problems_once_and_a_seed_repeats_it(folders):
    teacher = minimoe.load(folders[0], dtype=torch.float32)
    first, again = (harvest(teacher, TOKENIZER, TASK, FEW) for _ in range(2))
    assert first.samples == again.samples and first.answers == 60
    problems = [sample.problem for sample in first.samples]
    assert len(set(problems)) == len(problems) == 12 - first.unsolved
    assert not any(is_held_out(problem) for problem in problems)
    assert all(TASK.is_correct(sample.problem, sample.response) for sample in first.samples)


def test_the_batches_of_a_harvest_share_no_random_numbers(folders, monkeypatch):
    teacher = minimoe.load(folders[0], dtype=torch.float32)
    whole = harvest(teacher, TOKENIZER, TASK, FEW)
    monkeypatch.setattr("minimoe.rl.distill.ROWS", 20)
    parts = harvest(teacher, TOKENIZER, TASK, FEW)
    assert parts.answers == whole.answers == 60
    assert parts.samples[:2] == whole.samples[:2]  # the first batch has the same seed


def test_a_teacher_that_solves_nothing_is_refused_with_the_numbers():
    silent = minimoe.Transformer(DENSE, seed=0)
    with torch.no_grad():
        silent.lm_head.weight.zero_()
    with pytest.raises(ValueError, match=r"60 answers to 12 problems of Digit\(numbers=2\), and none of them is right"):
        harvest(silent, TOKENIZER, TASK, FEW)


@pytest.mark.parametrize("name", ["problems", "answers", "per_problem", "max_new_tokens", "temperature"])
def test_a_number_that_is_not_positive_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"{name}=0 must be greater than 0"):
        Sampling(**{name: 0})


def test_too_few_samples_for_a_batch_are_refused():
    with pytest.raises(ValueError, match="3 samples do not fill a batch of sequences=4"):
        teach(ResponseLearner(DENSE, seed=0), TOKENIZER, [Sample("1", "1")] * 3, SHORT, sequences=4)


def test_the_student_learns_the_responses_and_not_the_problems():
    student, samples = ResponseLearner(DENSE, seed=0), [Sample(f"{i} {i}", f"<think></think>{i}") for i in range(8)]
    rows = [encode_document(TOKENIZER, document(sample.problem, sample.response)) for sample in samples]
    before = response_loss(student, rows)
    history = teach(student, TOKENIZER, samples, Settings(steps=30, lr=2e-2, balance="none"), sequences=8)
    assert history["next_token"][0] == pytest.approx(before, rel=1e-4)  # float32 sums in another order
    assert response_loss(student, rows) < 0.5 * before


def test_distillation_goes_from_checkpoint_to_checkpoint(folders, tmp_path):
    teacher, student = folders
    found, history = distill(teacher, student, tmp_path / "out", TASK, FEW, SHORT, sequences=4, label=None)
    out = tmp_path / "out"
    assert minimoe.load(out).config == minimoe.load(student).config
    assert Tokenizer.load(out).vocab_size == TOKENIZER.vocab_size
    lines = (out / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert [Sample(**json.loads(line)) for line in lines] == found.samples
    counts = json.loads((out / "harvest.json").read_text(encoding="utf-8"))
    assert counts["kept"] == len(found.samples) and counts["sampling"] == dataclasses.asdict(FEW)
    assert [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()] == [1, 2, 3]
    assert len(history) == 3
    before, after = minimoe.load(student).state_dict(), minimoe.load(out).state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_divergence_is_the_sum_that_is_written_down_in_both_directions():
    generator = torch.Generator().manual_seed(0)
    student_MV, teacher_MV = (torch.randn(3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    p_MV, q_MV = teacher_MV.softmax(-1).tolist(), student_MV.softmax(-1).tolist()
    for reverse in (False, True):
        first, second = (q_MV, p_MV) if reverse else (p_MV, q_MV)
        rows = [sum(a * math.log(a / b) for a, b in zip(x, y, strict=True)) for x, y in zip(first, second, strict=True)]
        assert divergence(student_MV, teacher_MV, reverse).item() == pytest.approx(sum(rows) / 3, rel=1e-12)
    assert divergence(student_MV, student_MV).item() == 0


def test_fine_tuning_on_samples_has_the_gradient_of_the_forward_divergence_on_average():
    """Weighted by how often the teacher says each token, the loss of samples differs by the teacher's entropy alone."""
    generator = torch.Generator().manual_seed(1)
    teacher_MV = torch.randn(1, 7, generator=generator, dtype=torch.float64)
    student_MV = torch.randn(1, 7, generator=generator, dtype=torch.float64).requires_grad_()
    samples = -(teacher_MV.softmax(-1) * student_MV.log_softmax(-1)).sum()
    (expected_MV,) = torch.autograd.grad(samples, student_MV)
    (found_MV,) = torch.autograd.grad(divergence(student_MV, teacher_MV), student_MV)
    torch.testing.assert_close(found_MV, expected_MV, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("once", "each", "alone", "expected"),
    [(100, 5, 30, 5), (101, 5, 30, 5), (99, 5, 30, 4), (0, 5, 30, 1), (100, 30, 30, math.inf), (1, 31, 30, math.inf)],
)
def test_a_teacher_pays_from_the_first_number_of_students_that_is_strictly_cheaper(once, each, alone, expected):
    assert students_to_pay(once, each, alone) == expected
    if math.isfinite(expected):
        assert once + expected * each < expected * alone
        assert expected == 1 or once + (expected - 1) * each >= (expected - 1) * alone


def test_two_tokenizers_are_refused(folders, tmp_path):
    teacher, student = folders
    other = tmp_path / "other"
    minimoe.save(minimoe.load(student), other)
    Tokenizer.train("one two three four five six", TOKENIZER.vocab_size + 4).save(other)
    with pytest.raises(ValueError, match=r"different tokenizers: 266 tokens, 0 merges in .*; 27\d tokens, \d merges"):
        distill(teacher, other, tmp_path / "out", TASK, FEW, SHORT)
    assert not (tmp_path / "out").exists()
