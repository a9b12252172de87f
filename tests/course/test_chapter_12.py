"""What chapter 12 says in words about the distillation study is what the stored runs say."""

import json
import re
from statistics import fmean

import pytest
import torch

import minimoe
from minimoe.rl.distill import Sampling, harvest
from minimoe.rl.rewards import accuracy
from minimoe.tokenizer import Tokenizer
from minimoe.training.reasoning import Chain, document, encode_document
from minimoe.training.responses import padded_batches, response_labels
from minimoe_course import data_path, distilled

PAIRS = [
    (record["preparation"], record["seed"], record["prepared"]["made_to_think"], record["arms"])
    for preparation in distilled.PREPARATIONS
    for record in distilled.results(preparation)
]


def test_three_preparations_have_the_same_five_seeds():
    assert list(distilled.PREPARATIONS) == ["none", "middle", "full"]
    for preparation in distilled.PREPARATIONS:
        assert [record["seed"] for record in distilled.results(preparation)] == [20, 21, 22, 23, 24]


def test_nine_of_ten_reinforced_students_end_within_a_tenth_of_their_skill_and_one_learned_to_guess():
    ends = {(p, s): (skill, arms["reinforced"]) for p, s, skill, arms in PAIRS if p != "none"}
    far = [key for key, (skill, arm) in ends.items() if abs(arm["accuracy"] - skill) > 0.1]
    assert len(ends) == 10 and far == [("full", 24)]
    skill, arm = ends["full", 24]
    assert (round(skill, 2), round(arm["made_to_think"], 2)) == (0.59, 0.21)


def test_students_without_the_stage_of_skill_stay_where_they_were_or_are_taught_anything_from_failure_to_most():
    assert distilled.arm("none", "reinforced") == distilled.prepared("none")
    taught = distilled.arm("none", "distilled")
    assert (round(min(taught), 2), round(max(taught), 2)) == (0.11, 0.91)
    assert min(taught) < min(distilled.prepared("none"))


def test_the_distilled_student_is_at_least_level_but_for_one_without_a_skill():
    behind = [(p, s) for p, s, _, arms in PAIRS if arms["distilled"]["accuracy"] < arms["reinforced"]["accuracy"]]
    assert behind == [("none", 23)]
    level = [skill for *_, skill, arms in PAIRS if arms["distilled"]["accuracy"] == arms["reinforced"]["accuracy"] == 1]
    assert len(level) == 3 and min(level) > 0.94


def test_after_equal_seconds_the_interval_leaves_out_zero_for_the_middle_preparation_alone():
    clear = {}
    for preparation in distilled.PREPARATIONS:
        _, ours, theirs = distilled.at_equal_seconds(preparation)
        clear[preparation] = distilled.difference(ours, theirs).clear
        if preparation == "middle":
            assert all(a > b for a, b in zip(ours, theirs, strict=True))
    assert clear == {"none": False, "middle": True, "full": False}


def test_three_of_five_students_rose_above_what_they_could_do_before():
    ends = zip(distilled.arm("middle", "reinforced"), distilled.prepared("middle", "made_to_think"), strict=True)
    assert sum(end > skill for end, skill in ends) == 3


def test_reinforcement_shows_no_gain_over_the_skill_before_and_distillation_does():
    before = distilled.prepared("middle", "made_to_think")
    tried = distilled.difference(distilled.arm("middle", "reinforced"), before)
    taught = distilled.difference(distilled.arm("middle", "distilled"), before)
    assert not tried.clear and taught.clear and min(taught.differences) > 0
    more = distilled.difference(distilled.arm("middle", "more corpus", "made_to_think"), before)
    assert more.mean / taught.mean == pytest.approx(0.75, abs=0.03)


def test_the_controls_of_the_middle_preparation():
    assert not distilled.difference(distilled.arm("middle", "true traces"), distilled.arm("middle", "distilled")).clear
    for arm, expected in (("true traces", 0.88), ("distilled", 0.88), ("more corpus", 0.19)):
        assert fmean(distilled.arm("middle", arm)) == pytest.approx(expected, abs=0.005)
    assert fmean(distilled.arm("middle", "more corpus", "made_to_think")) == pytest.approx(0.83, abs=0.005)
    assert fmean(distilled.prepared("middle", "made_to_think")) == pytest.approx(0.68, abs=0.005)
    harvests = distilled.arm("middle", "distilled", "harvest")
    assert all(1170 < harvest["kept"] < 1190 and 30 < harvest["other_traces"] < 40 for harvest in harvests)


def test_four_students_with_the_skill_came_to_095_alone_and_no_other_did():
    found = [seconds for *_, seconds in distilled.seconds_to(0.95, skill=0.9)]
    assert len(found) == 4 and min(found) > 3 and max(found) < 35
    assert all(seconds == float("inf") for *_, seconds in distilled.seconds_to(0.95, skill=0)[:5])
    assert sum(seconds < float("inf") for *_, seconds in distilled.seconds_to(0.95, skill=0)) == 4
    weak = [arms["distilled"]["accuracy"] for *_, skill, arms in PAIRS if skill < 0.9]
    assert len(weak) == 11 and sum(right >= 0.95 for right in weak) == 2


def slips(text):
    """The places (from 1) of the values of a thought that are wrong, each judged by what stands before it."""
    thought = re.search("<think>(.*)</think>", text)[1]
    steps = re.findall(r"(\d)([-+*])(\d)=(?=(\d))", thought)
    results = [{"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign] % 10 for a, sign, b, _ in steps]
    return [place for place, (found, step) in enumerate(zip(results, steps, strict=True), 1) if found != int(step[3])]


def test_at_the_last_step_two_answers_slip_and_three_right_ones_do_too():
    assert slips("<think>3+5=8+7=5+5=5+3=8</think>8") == [3] and slips("<think>3+5=8</think>8") == []
    lines = (data_path("distill") / "reinforced" / "groups.jsonl").read_text(encoding="utf-8").splitlines()
    groups = [group for group in map(json.loads, lines) if group["step"] == 40]
    answers = [answer["text"] for answer in groups[0]["answers"]]
    assert groups[0]["problem"] == "3 + 5 + 7 + 5 + 3 + 7 * 8" and len(answers) == 16
    wrong = [slips(text) for text in answers if not text.endswith("</think>0")]
    assert sorted(found[0] for found in wrong) == [3, 5] and len(wrong) == 2
    paid = [text for text in answers if text.endswith("</think>0") and slips(text)]
    assert len(paid) == 3 and all("5+5=5" in text and "5*8=0" in text for text in paid)


def test_in_every_step_most_groups_are_mixed():
    lines = (data_path("distill") / "reinforced" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    learnable = [json.loads(line)["learnable"] for line in lines]
    assert len(learnable) == 40 and min(learnable) == 12


def test_the_token_after_think_has_four_tenths_of_the_reverse_divergence():
    tokenizer = Tokenizer.load(data_path("zero"))
    lines = (data_path("distill") / "samples.jsonl").read_text(encoding="utf-8").splitlines()[:64]
    texts = [document(sample["problem"], sample["response"]) for sample in map(json.loads, lines)]
    ids_BT = next(padded_batches([encode_document(tokenizer, text) for text in texts], 64, seed=0))
    student, teacher = (minimoe.load(data_path(name), dtype=torch.float32) for name in ("distill/prepared", "zero"))
    with torch.no_grad():
        q_BTV, p_BTV = (model(ids_BT).logits[:, :-1].log_softmax(-1) for model in (student, teacher))
        taught_BTV = minimoe.load(data_path("distill"), dtype=torch.float32)(ids_BT).logits[:, :-1].log_softmax(-1)
    reverse_BT = (q_BTV.exp() * (q_BTV - p_BTV)).sum(-1)
    response_BT = response_labels(ids_BT)[:, 1:] != -100
    think, close = (tokenizer.encode(mark, special=True)[0] for mark in ("<think>", "</think>"))
    after_BT = response_BT & (ids_BT[:, :-1] == think)
    assert reverse_BT[after_BT].sum() / reverse_BT[response_BT].sum() == pytest.approx(0.4, abs=0.06)
    assert q_BTV[after_BT][:, close].exp().mean() == pytest.approx(0.8, abs=0.05)
    assert p_BTV[after_BT][:, close].exp().mean() < 0.01
    said = [x_BTV[response_BT].gather(1, ids_BT[:, 1:][response_BT][:, None]) for x_BTV in (taught_BTV, p_BTV)]
    forward_BT = (p_BTV.exp() * (p_BTV - taught_BTV)).sum(-1)
    entropy_BT = -(p_BTV.exp() * p_BTV).sum(-1)
    assert -said[0].mean() < forward_BT[response_BT].mean() and -said[1].mean() < entropy_BT[response_BT].mean() / 2


def test_the_base_works_out_one_chain_in_five_and_guesses_one_in_seven_of_the_rest():
    task, counts = Chain(operations=6), {"thought": 0, "guess": 0, "right thought": 0, "right guess": 0}
    tokenizer = Tokenizer.load(data_path("reason"))
    base = minimoe.load(data_path("reason"), dtype=torch.float32)

    def rule(question, answer):
        right = accuracy(question, answer)
        kind = "thought" if "<think>" in answer.text and "<think></think>" not in answer.text else "guess"
        counts[kind] += 1
        counts[f"right {kind}"] += right
        return right

    harvest(base, tokenizer, task, Sampling(problems=400, answers=2, per_problem=1, max_new_tokens=48, seed=7), rule)
    assert counts["thought"] / 800 == pytest.approx(0.2, abs=0.05)
    assert counts["right thought"] / counts["thought"] == pytest.approx(0.9, abs=0.06)
    assert counts["right guess"] / counts["guess"] == pytest.approx(1 / 7, abs=0.04)
