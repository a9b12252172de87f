"""Groups of answers: what `generate` says row by row, with the log-probabilities that training computes again."""

import pytest
import torch
from tiny_policy import CONFIG, TOKENIZER, ask, policy

from minimoe.inference.decode import DecodePlan
from minimoe.inference.generate import generate
from minimoe.inference.sampling import row_seeds
from minimoe.inference.stepper import Stepper
from minimoe.rl.likelihood import Rows, answer_logprobs
from minimoe.rl.rollout import GroupDecoding, rollout
from minimoe.training.reasoning import encode_prompt

QUESTIONS = ask("3 1 4 1 5 9 2", "7", "2 6 5")  # prompts of 16, 4 and 8 tokens: both sides of the plan's limit of 8
BASELINE = {"kv_lora_rank": None, "num_key_value_heads": 2, "head_dim": 12}  # grouped queries: no DecodePlan


def answers_of(groups):
    return [answer for group in groups for answer in group.answers]


def flat(groups):
    return [answer.tokens for answer in answers_of(groups)]


def generated_alone(model, questions, answers, seed, **options):
    """The definition: every answer is a call of its own, with the seed of its row."""
    prompts = [encode_prompt(TOKENIZER, question.problem) for question in questions]
    rows = [prompt for prompt in prompts for _ in range(answers)]
    calls = [
        generate(model, [prompt], seed=[own], stop_tokens=[TOKENIZER.eos_id], **options)
        for prompt, own in zip(rows, row_seeds(seed, len(rows)), strict=True)
    ]
    return tuple([getattr(call, name)[0] for call in calls] for name in ("tokens", "logprobs", "finish_reasons"))


CASES = {
    "plain": ({}, {"temperature": 1.0}),
    "warm": ({}, {"temperature": 1.6, "top_p": 0.9}),
    "baseline": (BASELINE, {"temperature": 1.0}),
}


@pytest.mark.parametrize(("changes", "sampling"), CASES.values(), ids=CASES)
def test_a_group_says_what_generate_says_row_by_row(changes, sampling):
    model = policy(dtype=torch.float64, **changes)
    assert DecodePlan.applies(model) == (not changes)
    groups = rollout(model, TOKENIZER, QUESTIONS, answers=4, max_new_tokens=9, seed=3, **sampling)
    tokens, logprobs, reasons = generated_alone(model, QUESTIONS, 4, 3, max_new_tokens=9, **sampling)
    assert flat(groups) == tokens
    assert [answer.ended for answer in answers_of(groups)] == [reason == "stop" for reason in reasons]
    assert len({tuple(row) for row in tokens}) > 9  # hardly any two answers are the same, within a group or across
    if sampling == {"temperature": 1.0}:  # the only one at which both mean the same distribution
        for answer, alone in zip(answers_of(groups), logprobs, strict=True):
            torch.testing.assert_close(answer.logprobs, alone, atol=1e-12, rtol=0)


def test_prompts_of_one_length_and_of_at_most_eight_tokens_say_the_same_too():
    model, questions = policy(dtype=torch.float64), ask("3", "8")
    groups = rollout(model, TOKENIZER, questions, answers=3, max_new_tokens=6, seed=1)
    assert flat(groups) == generated_alone(model, questions, 3, 1, max_new_tokens=6, temperature=1.0)[0]
    assert [len(group.prompt) for group in groups] == [4, 4]


@pytest.mark.parametrize("dtype, rounding", [(torch.float64, 1e-12), (torch.float32, 3e-5)])
@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.5])
def test_the_log_probabilities_are_those_that_training_computes(temperature, dtype, rounding):
    """So the ratio starts at 1. Logits reach 20, where float32 has steps of 2e-6: a few of those, over temperature."""
    model = policy(dtype=dtype)
    groups = rollout(model, TOKENIZER, QUESTIONS, answers=4, max_new_tokens=7, temperature=temperature, seed=2)
    prompts = [group.prompt for group in groups for _ in group.answers]
    rows = Rows.of(prompts, flat(groups))
    logprobs_BS, _ = answer_logprobs(model, rows, temperature)
    sampled = torch.tensor([value for answer in answers_of(groups) for value in answer.logprobs], dtype=dtype)
    torch.testing.assert_close(sampled, logprobs_BS[rows.mask_BS].detach(), atol=rounding, rtol=0)
    other_BS, _ = answer_logprobs(model, rows, temperature * 1.1)
    assert (other_BS[rows.mask_BS].detach() - sampled).abs().max() > 0.01  # at another temperature they are not


def test_an_answer_knows_its_question_its_text_and_whether_it_ended():
    groups = rollout(policy(), TOKENIZER, QUESTIONS, answers=6, max_new_tokens=12, temperature=1.5, seed=0)
    assert [group.question for group in groups] == QUESTIONS
    assert [group.prompt for group in groups] == [encode_prompt(TOKENIZER, q.problem) for q in QUESTIONS]
    assert [len(group.answers) for group in groups] == [6, 6, 6]
    ended = [answer for answer in answers_of(groups) if answer.ended]
    cut_off = [answer for answer in answers_of(groups) if not answer.ended]
    assert ended and cut_off
    for answer in ended:
        assert answer.tokens.index(TOKENIZER.eos_id) == len(answer.tokens) - 1
        assert answer.text == TOKENIZER.decode(answer.tokens[:-1])
    for answer in cut_off:
        assert len(answer.tokens) == 12 and TOKENIZER.eos_id not in answer.tokens
        assert answer.text == TOKENIZER.decode(answer.tokens)
    assert all(len(answer.logprobs) == len(answer.tokens) for answer in answers_of(groups))
    assert all(value < 0 for answer in answers_of(groups) for value in answer.logprobs)


def test_a_prompt_is_read_once_and_a_finished_row_is_not_computed_any_more(monkeypatch):
    read, rows = [], []
    trunk, one_round = Stepper.trunk, GroupDecoding.round

    def counted_trunk(self, ids):
        read.append(tuple(ids.shape))
        return trunk(self, ids)

    def counted_round(self):
        rows.append(len(self.rows))
        return one_round(self)

    monkeypatch.setattr(Stepper, "trunk", counted_trunk)
    monkeypatch.setattr(GroupDecoding, "round", counted_round)
    groups = rollout(policy(), TOKENIZER, QUESTIONS, answers=6, max_new_tokens=12, temperature=1.5, seed=0)
    lengths = [len(answer.tokens) for answer in answers_of(groups)]
    assert read[0] == (3, 16)  # every prompt once, not six times
    assert sum(rows) == sum(length - 1 for length in lengths)  # the first token of each comes with the prompt
    assert rows[0] > rows[-1]  # some left before the others


def test_the_same_seed_gives_the_same_answers_and_another_gives_others():
    model = policy()
    first, again, other = (rollout(model, TOKENIZER, QUESTIONS, 4, 6, seed=seed) for seed in (7, 7, 8))
    assert flat(first) == flat(again) and flat(first) != flat(other)


def test_the_answers_to_a_question_depend_on_its_place_and_not_on_the_other_questions():
    model = policy(dtype=torch.float64)
    long, short = ask("1 2 3 4 5 6"), ask("9")
    beside = rollout(model, TOKENIZER, QUESTIONS[:1] + long + QUESTIONS[2:], 4, 6, seed=7)
    other = rollout(model, TOKENIZER, QUESTIONS[:1] + short, 4, 6, seed=7)
    assert flat(beside[:1]) == flat(other[:1])
    assert flat(beside[1:2]) != flat(other[1:2])


def test_top_k_limits_what_is_drawn_and_not_the_distribution_of_the_log_probabilities():
    model = policy(dtype=torch.float64)
    groups = rollout(model, TOKENIZER, QUESTIONS, answers=2, max_new_tokens=5, top_k=1, seed=4)
    assert flat(groups) == generated_alone(model, QUESTIONS, 2, 4, max_new_tokens=5, temperature=0.0)[0]
    assert all(value < 0 for answer in answers_of(groups) for value in answer.logprobs)  # of one token it would be 0


def test_one_answer_of_one_token_is_a_group_too():
    (group,) = rollout(policy(), TOKENIZER, ask("5"), answers=1, max_new_tokens=1)
    assert len(group.answers) == 1 and len(group.answers[0].tokens) == 1


def test_sampling_leaves_the_model_as_it_was():
    model = policy()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rollout(model, TOKENIZER, QUESTIONS, 3, 4)
    assert model.training and all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"temperature": 0.0}, "temperature=0.0: the answers of a group must differ"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"answers": 0}, "answers=0"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"max_new_tokens": 65}, r"16 tokens and max_new_tokens=65 make 81 positions, more than .*=80"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"questions": []}, "at least one prompt"),
    ],
)
def test_what_cannot_be_sampled_is_named(wrong, words):
    assert CONFIG.max_position_embeddings == 80
    options = {"questions": QUESTIONS, "answers": 4, "max_new_tokens": 6} | wrong
    with pytest.raises(ValueError, match=words):
        rollout(policy(), TOKENIZER, **options)
