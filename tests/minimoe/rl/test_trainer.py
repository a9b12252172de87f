"""The loop of GRPO: a step by hand, what it records, what it skips, and a run that stops, dies and goes on."""

import json
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import killed_reinforcement
import pytest
import torch
from tiny_policy import ODD, SHOWN, TOKENIZER, Digit, ask, parts, policy, same, timeless, trainer, weights

import minimoe.rl.trainer as trainer_module
from minimoe.rl.grpo import GRPO, R1, Objective, group_advantages
from minimoe.rl.learner import Learner
from minimoe.rl.rewards import Rewards
from minimoe.rl.rollout import Answer, rollout
from minimoe.rl.tasks import Questions
from minimoe.rl.trainer import GRPOTrainer, reinforce
from minimoe.training import BackgroundRun
from minimoe.training.snapshot import STATE_NAME, read_state

PPO = Objective()
NOTHING = Rewards({"nothing": (1.0, lambda question, answer: 0.0)})
WATCHED = ask("3 1 4", "7")
LEARNED = {"loss", "grad_norm", "entropy", "kl", "clip_fraction", "clip_low_fraction", "clip_high_fraction"}
LEARNED |= {"ratio_mean", "masked_fraction"}
ALWAYS = {"step", "stage", "reward", "parts", "accuracy", "well_formed", "mean_tokens", "ended", "groups", "learnable"}
ALWAYS |= {"skipped", "lr", "cpu_s", "wall_s"}


def run(made: GRPOTrainer, until=None) -> GRPOTrainer:
    while made.steps != until and made.step() is not None:
        pass
    return made


def lines(folder, name):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def head(model) -> dict:
    """An evaluation: a number that every step changes."""
    return {"accuracy": model.lm_head.weight.double().sum().item()}


# --- a step ---------------------------------------------------------------------------------------------------------


def test_a_step_by_hand_equals_one_of_the_loop():
    model, _, questions, rewards, settings = parts(seed=2, warmup=4, objective=GRPO)
    made = run(GRPOTrainer(*parts(seed=2, warmup=4, objective=GRPO)), until=1)
    groups = rollout(model, TOKENIZER, questions.draw(1, 3), 4, 5, 1.0, seed=2 * 1_000_003 + 1)
    scores = [[rewards.score(group.question, answer) for answer in group.answers] for group in groups]
    rewards_PO = torch.tensor([[rewards.total(score) for score in row] for row in scores])
    learner = Learner(model, policy(), settings)
    found = learner.learn(groups, group_advantages(rewards_PO), settings.lr / 4)
    assert same(weights(model), weights(made.model)) and not same(weights(model), weights(policy()))
    (record,) = made.records
    assert found == {name: record[name] for name in found} and set(found) == LEARNED
    assert record["reward"] == rewards_PO.mean().item() > 0 and record["lr"] == settings.lr / 4
    answers = [answer for group in groups for answer in group.answers]
    assert record["mean_tokens"] == sum(len(answer.tokens) for answer in answers) / 12
    assert record["ended"] == sum(answer.ended for answer in answers) / 12


def test_a_record_has_what_explorers_read():
    made = trainer(steps=2, evaluation=head, evaluate_every=2, stage="reasoning")
    first, second = run(made).records
    assert set(first) == ALWAYS | LEARNED | {"evaluation_before"} and set(second) == ALWAYS | LEARNED | {"evaluation"}
    assert [record["step"] for record in made.records] == [1, 2] and first["stage"] == "reasoning"
    assert (first["groups"], first["learnable"], first["skipped"]) == (3, 3, False)
    assert first["parts"] == {"odd": pytest.approx(first["reward"])}
    assert 0 < first["cpu_s"] < second["cpu_s"] and 0 < first["wall_s"] < second["wall_s"]
    json.dumps(made.records)


def test_the_record_describes_all_answers(monkeypatch):
    """All but one think and say 1: right where the problem ends with 1, well formed, three tokens."""

    def sampled(*arguments, **options):
        groups = rollout(*arguments, **options)
        for group in groups:
            group.answers = [Answer([8, 9, 59], [-1.0] * 3, "<think></think>1", ended=True) for _ in group.answers]
        groups[0].answers[0] = Answer([59] * 5, [-1.0] * 5, "11", ended=False)
        return groups

    monkeypatch.setattr(trainer_module, "rollout", sampled)
    made = trainer(rewards=Rewards({"long": (2.0, lambda question, answer: len(answer.tokens))}))
    record, problems = made.step(), [question.problem for question in Questions(Digit(), seed=5).draw(1, 3)]
    right = sum(4 * (problem[-1] == "1") for problem in problems) - (problems[0][-1] == "1")
    assert record["accuracy"] == right / 12 and record["well_formed"] == record["ended"] == 11 / 12
    assert record["mean_tokens"] == record["parts"]["long"] == (11 * 3 + 5) / 12
    assert record["reward"] == pytest.approx(2 * record["parts"]["long"]) and record["learnable"] == 1


def test_the_seed_fixes_every_number_of_a_run():
    first, again, other = (run(trainer(steps=3, seed=seed)) for seed in (1, 1, 2))
    assert timeless(first.records) == timeless(again.records) != timeless(other.records)
    assert same(weights(first.model), weights(again.model)) and not same(weights(first.model), weights(other.model))


@pytest.mark.parametrize("objective", [PPO, GRPO], ids=["without_kl", "with_kl"])
@pytest.mark.filterwarnings("ignore:3 steps in a row")
def test_a_step_whose_rewards_are_all_equal_is_skipped_and_counted(objective):
    made = trainer(steps=4, rewards=NOTHING, objective=objective, weight_decay=0.1)
    before = weights(made.model)
    record = made.step()
    assert set(record) == ALWAYS and record["skipped"] and record["learnable"] == 0 and record["reward"] == 0
    assert run(made).skipped == 4 and [r["step"] for r in made.records] == [1, 2, 3, 4]
    assert same(weights(made.model), before)


def test_one_group_that_differs_is_enough_for_a_step():
    told = Rewards({"first": (1.0, lambda question, answer: odd_of(answer) * (question.problem == first))})
    first = Questions(Digit(), seed=5).draw(1, 3)[0].problem
    made = trainer(steps=1, rewards=told, objective=PPO)
    before, record = weights(made.model), made.step()
    assert (record["learnable"], record["groups"], record["skipped"], made.skipped) == (1, 3, False, 0)
    assert not same(weights(made.model), before)


def odd_of(answer) -> float:
    return ODD.score(None, answer)["odd"]


def test_updates_share_the_groups_of_a_step():
    """At the second update the ratio is no longer 1; both learn at the step's rate."""
    once, twice = (run(trainer(steps=1, updates=updates, lr=1e-2)).records[0] for updates in (1, 2))
    assert once["ratio_mean"] == pytest.approx(1, abs=1e-5) and abs(twice["ratio_mean"] - 1) > 1e-3


def test_the_loss_starts_at_zero_and_the_gradient_does_not():
    record = trainer(objective=PPO).step()
    assert abs(record["loss"]) < 1e-5 and record["grad_norm"] > 0.1


# --- what is looked at ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "looked_at"), [(2, [0, 2, 4, 5]), (5, [0, 5]), (9, [0, 5]), (0, [])])
def test_watched_groups_are_recorded_before_the_first_step_every_so_often_and_at_the_end(every, looked_at):
    made = run(trainer(steps=5, watch=WATCHED, evaluation=head, evaluate_every=every, stage="s"))
    assert [group["step"] for group in made.groups] == [step for step in looked_at for _ in WATCHED]
    assert {group["problem"] for group in made.groups} == ({"3 1 4", "7"} if looked_at else set())
    assert all(group["stage"] == "s" and len(group["answers"]) == 4 for group in made.groups)
    evaluated = [record["step"] for record in made.records if "evaluation" in record]
    assert evaluated == looked_at[1:]
    assert ("evaluation_before" in made.records[0]) == bool(looked_at)


@pytest.mark.filterwarnings("ignore:3 steps in a row")
def test_watched_groups_are_sampled_with_the_same_random_numbers_and_steps_are_not():
    """A policy that never changes says the same to the watched questions, and new things to the others."""
    made = trainer(steps=4, rewards=NOTHING, watch=WATCHED, evaluate_every=2)
    sampled = [made.sample(WATCHED, step) for step in (1, 2)]
    groups = run(made).groups
    assert [{**group, "step": 0} for group in groups[2:4]] == groups[:2] == [{**g, "step": 0} for g in groups[4:]]
    assert [a.tokens for a in sampled[0][0].answers] != [a.tokens for a in sampled[1][0].answers]


def test_watching_and_evaluating_change_nothing_of_the_run():
    looked_at = run(trainer(steps=3, watch=WATCHED, evaluation=head, evaluate_every=1))
    assert same(weights(looked_at.model), weights(run(trainer(steps=3, evaluate_every=0)).model))


def test_an_evaluation_is_of_the_policy_after_the_step():
    made = trainer(steps=4, evaluation=head, evaluate_every=2)
    before, seen = head(made.model), []
    while (record := made.step()) is not None:
        seen.append((record.get("evaluation"), head(made.model)))
    assert made.records[0]["evaluation_before"] == before
    assert [found for found, _ in seen] == [None, seen[1][1], None, seen[3][1]] and seen[1][1] != before


def test_a_step_whose_evaluation_fails_is_made_all_the_same(tmp_path):
    def evaluation(model):
        if made.steps == 2:
            raise RuntimeError("no more")
        return head(model)

    made = trainer(tmp_path, steps=5, evaluation=evaluation, evaluate_every=1)
    made.step()
    with pytest.raises(RuntimeError, match="no more"):
        made.step()
    run(made).close()
    assert [record["step"] for record in made.records] == [1, 2, 3, 4, 5]
    assert ["evaluation" in record for record in made.records] == [True, False, True, True, True]
    assert run(trainer(tmp_path, steps=5, evaluate_every=1)).records == made.records == lines(tmp_path, "log.jsonl")


# --- the reference --------------------------------------------------------------------------------------------------


def test_the_reference_is_the_start_or_the_policy_of_every_so_many_steps():
    fixed, moving = trainer(steps=5), trainer(steps=5, reference_every=2)
    start, policies, references = weights(fixed.model), [], []
    assert same(weights(fixed.learner.reference), start)
    while moving.step() is not None:
        policies.append(weights(moving.model))
        references.append(weights(moving.learner.reference))
    expected = [start, policies[1], policies[1], policies[3], policies[3]]
    assert all(same(a, b) for a, b in zip(references, expected, strict=True))
    assert same(weights(run(fixed).learner.reference), start) and same(weights(moving.start), start)
    assert not any(parameter.requires_grad for parameter in moving.learner.reference.parameters())


def test_the_divergence_is_from_the_reference():
    records = run(trainer(steps=4, reference_every=2, lr=1e-2)).records
    assert records[0]["kl"] < 1e-9 and records[2]["kl"] < 1e-9  # the policy is its own reference
    assert records[1]["kl"] > 1e-5 and records[3]["kl"] > 1e-5


# --- runs that stop and go on ---------------------------------------------------------------------------------------

LONG = {"steps": 7, "reference_every": 3, "updates": 2, "warmup": 4, "objective": GRPO, "evaluate_every": 2}


def looked_at(folder=None, **changes):
    return trainer(folder, watch=WATCHED, evaluation=head, **LONG | changes)


def assert_equal_runs(one, other):
    assert timeless(one.records) == timeless(other.records) and len(one.records) == 7
    assert one.groups == other.groups and len(one.groups) == 10
    for name in ("model", "start"):
        assert same(weights(getattr(one, name)), weights(getattr(other, name)))
    assert same(weights(one.learner.reference), weights(other.learner.reference))
    assert one.skipped == other.skipped


@pytest.mark.parametrize("stopped_at", [0, 3, 7])
def test_a_run_that_stops_and_goes_on_equals_one_that_does_not(stopped_at, tmp_path, whole_run):
    run(looked_at(tmp_path), until=stopped_at).close()
    second = looked_at(tmp_path)
    assert second.steps == stopped_at
    run(second).close()
    assert_equal_runs(second, whole_run)
    assert lines(tmp_path, "log.jsonl") == second.records and lines(tmp_path, "groups.jsonl") == second.groups
    third = looked_at(tmp_path)
    assert third.done and third.step() is None and third.records == second.records
    assert same(weights(third.model), weights(whole_run.model))


@pytest.fixture(scope="module")
def whole_run():
    return run(looked_at())


def test_what_came_after_the_last_saved_step_is_made_again(tmp_path, whole_run):
    """As after a kill: nothing is closed, and the logs are ahead of the state, with half a line at their ends."""
    run(looked_at(tmp_path), until=5)
    assert read_state(tmp_path)["steps"] == 4 and len(lines(tmp_path, "log.jsonl")) == 5
    for name in ("log.jsonl", "groups.jsonl"):
        with (tmp_path / name).open("a") as file:
            file.write('{"step": 6, "rew')
    second = looked_at(tmp_path)
    assert second.steps == 4 and second.groups[-1]["step"] == 4
    run(second).close()
    assert_equal_runs(second, whole_run)
    assert lines(tmp_path, "groups.jsonl") == second.groups


@pytest.mark.filterwarnings("ignore:3 steps in a row")
def test_skipped_steps_are_counted_across_a_stop(tmp_path):
    run(trainer(tmp_path, rewards=NOTHING), until=3).close()
    second = run(trainer(tmp_path, rewards=NOTHING))
    assert second.skipped == 6 and [record["step"] for record in second.records if "notice" in record] == [3]


@pytest.mark.skipif(sys.platform == "win32", reason="os.fork and SIGKILL; un-skip when Windows has them")
def test_a_process_killed_again_and_again_ends_bit_identical_to_one_that_never_was(tmp_path):
    script = Path(killed_reinforcement.__file__)
    command = [sys.executable, str(script), str(tmp_path / "run"), "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=True)
    *steps, numbers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(steps) == 3 and steps == sorted(set(steps)) and 0 < steps[0] and steps[-1] < killed_reinforcement.STEPS
    assert numbers == killed_reinforcement.learn(None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lr": 0.5}, "settings.lr was '0.001' there and is '0.5' here"),
        ({"steps": 8}, "settings.steps was '6' there and is '8' here"),
        ({"objective": PPO}, "settings.objective was .*kl_weight=0.001.* there"),
        ({"seed": 3}, "settings.seed was '0' there and is '3' here"),
        ({"rewards": SHOWN}, "data.rewards was '1 odd' there and is '1 shown' here"),
        ({"questions": Questions(Digit(), seed=6)}, "data.questions was .*seed=5.* there and is .*seed=6"),
        ({"model": policy(intermediate_size=44)}, "config.intermediate_size was 40 there and is 44 here"),
        ({"model": policy(seed=1)}, "it began with other weights than this model's"),
        ({"model": policy(dtype=torch.float64)}, "it began with other weights than this model's"),
    ],
)
def test_a_folder_with_another_run_is_refused_and_kept(change, words, tmp_path):
    run(trainer(tmp_path), until=2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=f"holds another run: {words}"):
        trainer(tmp_path, **change)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_model_that_was_stopped_may_go_on_itself(tmp_path):
    first = run(trainer(tmp_path), until=2)
    again = run(trainer(tmp_path, model=first.model))
    assert same(weights(again.model), weights(run(trainer()).model)) and same(weights(again.start), weights(policy()))


def test_a_log_that_was_cut_is_not_passed_off_as_whole(tmp_path):
    run(trainer(tmp_path, steps=4)).close()
    log = tmp_path / "log.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(ValueError, match="log.jsonl has 3 steps, the state beside it 4"):
        trainer(tmp_path, steps=4)
    log.unlink()
    with pytest.raises(ValueError, match="log.jsonl has 0 steps, the state beside it 4"):
        trainer(tmp_path, steps=4)


def test_a_run_interrupted_inside_a_step_is_not_saved(tmp_path, monkeypatch):
    made = run(trainer(tmp_path, steps=9, save_every=0), until=3)
    monkeypatch.setattr(made.learner, "_pass", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.step()
    made.close()
    assert not (tmp_path / STATE_NAME).exists()


def interrupted(*_):
    raise KeyboardInterrupt


def test_without_a_folder_there_is_nothing_to_save_to():
    made = trainer()
    with pytest.raises(ValueError, match="no folder to save to"):
        made.save()
    made.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot keep a run in .*file"):
        trainer(tmp_path / "file" / "run")


def test_a_gradient_that_is_no_number_ends_the_run_and_names_the_rate():
    made = trainer(lr=0.25)
    with torch.no_grad():
        made.start.lm_head.weight.fill_(float("nan"))  # the reference; a broken policy could not even be sampled
    before = weights(made.model)
    with pytest.raises(ValueError, match="the gradient's norm is nan: lower lr=0.25"):
        made.step()
    assert same(weights(made.model), before) and made.records == []


# --- in a cell and in a thread --------------------------------------------------------------------------------------


def test_reinforce_runs_to_the_end_and_shows_how_far_it_is(tmp_path, capsys):
    made = reinforce(*parts(steps=4), label="RL", folder=tmp_path)
    assert made.done and made.progress == 1 and made.log.file.closed and made.group_log.file.closed
    shown = capsys.readouterr().out
    assert "RL [" in shown and "step 4  reward" in shown and "100%" in shown
    assert same(weights(reinforce(*parts(steps=4)).model), weights(made.model)) and capsys.readouterr().out == ""


def test_reinforce_saves_the_steps_before_an_error(tmp_path, monkeypatch):
    def breaking(question, answer):
        if len(made) >= 3 * 12:
            raise RuntimeError("a rule broke")
        made.append(answer)
        return odd_of(answer)

    made = []
    with pytest.raises(RuntimeError, match="a rule broke"):
        reinforce(*parts(rewards=Rewards({"odd": (1.0, breaking)})), folder=tmp_path)
    assert read_state(tmp_path)["steps"] == 2  # step 4 was under way, 3 not yet due: save_every=2
    assert run(trainer(tmp_path)).done


def until(condition, seconds=60):
    end_s = time.monotonic() + seconds
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.01)
    assert condition()


def test_in_a_thread_it_makes_the_same_steps():
    alone, beside = run(trainer(watch=WATCHED)), BackgroundRun.around(trainer(watch=WATCHED)).start()
    beside.wait(60)
    assert beside.done and not beside.running and beside.progress == 1
    assert timeless(beside.records) == timeless(alone.records) and beside.groups == alone.groups
    assert len(beside.groups) == 6 and beside.message is None


def test_in_a_thread_it_stops_saves_and_goes_on(tmp_path):
    background = BackgroundRun.around(trainer(tmp_path, steps=100_000, save_every=0)).start()
    until(lambda: len(background.records) >= 2)
    background.stop()
    made = len(background.records)
    assert not background.running and not background.done and read_state(tmp_path)["steps"] == made
    background.start()
    until(lambda: len(background.records) > made)
    background.stop()
    assert [record["step"] for record in background.records] == list(range(1, len(background.records) + 1))
    assert trainer(tmp_path, steps=100_000, save_every=0).records == background.records


def test_in_a_thread_an_error_is_kept_and_raised_to_who_waits():
    def broken(question, answer):
        raise RuntimeError("a rule broke")

    background = BackgroundRun.around(trainer(rewards=Rewards({"broken": (1.0, broken)}))).start()
    with pytest.raises(RuntimeError, match="a rule broke"):
        background.wait(60)
    assert not background.running and background.records == [] and isinstance(background.error, RuntimeError)


@pytest.mark.filterwarnings("ignore:3 steps in a row")
def test_in_a_thread_the_notice_is_shown_and_settings_stay():
    background = BackgroundRun.around(trainer(steps=4, rewards=NOTHING)).start()
    background.wait(60)
    assert "taught nothing" in background.message
    with pytest.raises(ValueError, match="lr is fixed"):
        background.change(lr=1.0)
    with pytest.raises(ValueError, match="balance: a GRPOTrainer keeps its settings"):
        background.change(balance="none")


def test_a_run_whose_rewards_say_nothing_says_so():
    made = trainer(steps=5, rewards=NOTHING)
    with pytest.warns(UserWarning, match=r"3 steps in a row taught nothing: .*\(nothing 0; ") as caught:
        run(made)
    assert len(caught) == 1 and made.notice == str(caught[0].message)
    assert [record["step"] for record in made.records if "notice" in record] == [3]


# --- learning -------------------------------------------------------------------------------------------------------


class FewDigits(Digit):
    """One digit of three, to be repeated."""

    def draw(self, rng: random.Random) -> str:
        return rng.choice("136")


def learned(seed) -> list[float]:
    model = policy(seed, initializer_range=0.1, first_k_dense_replace=2)
    settings = {"prompts": 6, "answers": 32, "max_new_tokens": 1, "lr": 1e-2, "objective": PPO, "seed": seed}
    made = trainer(steps=35, rewards=SHOWN, model=model, questions=Questions(FewDigits(), seed), **settings)
    return [record["reward"] for record in run(made).records]


@pytest.mark.filterwarnings("ignore:3 steps in a row")
def test_a_policy_learns_to_repeat_the_digit_that_it_is_shown_and_from_shuffled_rewards_it_does_not(monkeypatch):
    told = learned(seed=0)
    assert sum(told[:3]) / 3 < 0.15 and sum(told[-3:]) / 3 > 0.9
    generator = torch.Generator().manual_seed(0)

    def shuffled(rewards_PO, scale):
        order = [torch.randperm(rewards_PO.shape[1], generator=generator) for _ in rewards_PO]
        return group_advantages(torch.stack([row[o] for row, o in zip(rewards_PO, order, strict=True)]), scale)

    monkeypatch.setattr(trainer_module, "group_advantages", shuffled)
    assert max(learned(seed=0)[-3:]) < 0.2


def test_r1_is_the_default_objective_and_reaches_the_loss():
    assert trainer().settings.objective == R1
    plain, weighted = (run(trainer(steps=3, lr=1e-2, objective=o)) for o in (PPO, replace(R1, kl_weight=5.0)))
    assert weighted.records[-1]["kl"] < plain.records[-1].get("kl", 1.0) and not same(
        weights(plain.model), weights(weighted.model)
    )
