"""RolloutExplorer without a browser: the page gets the recorded answers; a real run of GRPO is watched as it grows."""

import json
import runpy
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from minimoe import Transformer
from minimoe.rl.rewards import R1_ZERO
from minimoe.rl.settings import RLSettings
from minimoe.rl.tasks import Question, Questions
from minimoe.rl.trainer import GRPOTrainer
from minimoe.training import BackgroundRun
from minimoe.training.reasoning import Chain, byte_tokenizer
from minimoe_widgets import RolloutExplorer

RECORDING = runpy.run_path(str(Path(__file__).with_name("rollout_recording.py")))
TASK = Chain(1)
pytestmark = pytest.mark.filterwarnings("ignore:.* steps in a row taught nothing")  # an untrained model cannot be right


@pytest.fixture
def folder(tmp_path):
    return RECORDING["write"](tmp_path / "zero")


@pytest.fixture
def explorer():
    made = []

    def open_explorer(*arguments, **options):
        made.append(RolloutExplorer(*arguments, **options))
        return made[-1]

    yield open_explorer
    for explorer in made:
        explorer.close()


@pytest.fixture
def run(config):
    """Makes small real runs of GRPO in the background."""

    def make(steps=400):
        tokenizer = byte_tokenizer()
        shape = {"vocab_size": tokenizer.vocab_size, "num_nextn_predict_layers": 0, "hidden_size": 16}
        model = Transformer(replace(config, **shape))
        settings = RLSettings(steps=steps, prompts=1, answers=2, max_new_tokens=3, evaluate_every=1)
        watch = [Question(TASK, "1 + 2"), Question(TASK, "3 * 3")]
        questions = Questions(TASK, seed=0)
        return BackgroundRun.around(GRPOTrainer(model, tokenizer, questions, R1_ZERO, settings, watch=watch))

    return make


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_it_opens_where_the_answers_are_most_divided(explorer, folder):
    shown = explorer(folder)
    assert list(shown.view.steps) == list(range(0, 41, 4)) and shown.view.at == shown.view.group["step"] == 8
    assert "3 of 6 answers are right" in shown.view.group["title"] and len(shown.view.group["rows"]) == 6
    assert shown.live is None and shown.start not in shown.children and shown.stage not in shown.children[1].children


def test_scrubbing_shows_the_answers_of_that_step(explorer, folder):
    shown = explorer(folder)
    shown.view.at = 40  # as the page does
    recorded = RECORDING["make_group"](shown.prompt.value, 40, "r1_zero")
    assert shown.view.group["step"] == 40
    advantages = [row["advantage"] for row in shown.view.group["rows"]]
    assert advantages == [answer["advantage"] for answer in recorded["answers"]]
    shown.view.at = 3  # no such step
    assert shown.view.group == {}


def test_another_prompt_keeps_the_step(explorer, folder):
    shown = explorer(folder, step=12)
    first = shown.prompt.value
    shown.prompt.value = shown.prompt.options[2]
    assert shown.view.at == 12 and shown.prompt.value in shown.view.group["title"] and first != shown.prompt.value


def test_only_the_wrong_ones_can_be_shown(explorer, folder):
    shown = explorer(folder)
    shown.shown.value = True
    assert {row["verdict"] for row in shown.view.group["rows"]} == {"wrong"} and len(shown.view.group["rows"]) == 3
    shown.view.at = 40
    assert shown.view.group["rows"] == [] and shown.view.group["of"] == 6


def test_where_nothing_is_verified_no_answer_is_hidden(explorer, folder):
    path = folder / "groups.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for answer in (answer for line in lines for answer in line["answers"]):
        answer["parts"] = {"preference": 0.5}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    shown = explorer(folder, step=8)
    shown.shown.value = True
    assert shown.shown.disabled and len(shown.view.group["rows"]) == 6


def test_stages_are_switched_and_one_without_answers_says_so(explorer, folder, tmp_path):
    sft = tmp_path / "sft"
    sft.mkdir()
    (sft / "history.jsonl").write_text('{"step": 1, "next_token": 2.0}\n{"step": 2, "next_token": 1.0}\n')
    other = RECORDING["write"](tmp_path / "other", "dev2", prompts=1, band=False)
    shown = explorer({"R1-Zero": folder, "cold start": sft, "RL": other})
    shown.prompt.value = shown.prompt.options[1]
    shown.stage.value = "cold start"
    assert shown.view.steps == [] and shown.view.group == {} and "no answers were recorded" in shown.notice.value
    assert [panel["title"] for panel in shown.view.curves["panels"]] == ["loss (nats a token)"]
    assert "no answers were recorded" in shown.static().get_suptitle()
    shown.stage.value = "RL"
    assert shown.prompt.options == (shown.prompt.value,) and shown.view.group["of"] == 6
    assert "no answers" not in shown.notice.value and shown.view.curves["panels"][0]["band"] is None
    shown.stage.value = "R1-Zero"
    assert shown.prompt.value == shown.prompt.options[0] and shown.view.curves["panels"][0]["band"] is not None


def test_the_band_can_be_handed_over(explorer, folder, tmp_path):
    bare = RECORDING["write"](tmp_path / "bare", "bare", band=False)
    assert explorer(bare).view.curves["panels"][0]["band"] is None
    assert explorer(bare, band=folder / "band.json").view.curves["panels"][0]["band"] is not None
    both = explorer([folder, bare], band={"bare": RECORDING["make_band"]()})
    both.stage.value = "bare"
    assert both.view.curves["panels"][0]["band"] is not None
    with pytest.raises(ValueError, match="of which stage is the band.*the stages are r1_zero, bare"):
        explorer([folder, bare], band=folder / "band.json")
    with pytest.raises(ValueError, match="a band of stage 'r2'; the stages are r1_zero"):
        explorer(folder, band={"r2": folder / "band.json"})


def test_half_a_line_is_said_in_the_explorer(explorer, folder):
    path = folder / "log.jsonl"
    path.write_bytes(path.read_bytes() + b'{"step": 4')
    assert "last line of log.jsonl is not finished" in explorer(folder).notice.value


def test_what_cannot_be_opened_is_refused(explorer, folder):
    with pytest.raises(ValueError, match="stage='dev2' was not recorded; the stages are r1_zero"):
        explorer(folder, stage="dev2")
    with pytest.raises(ValueError, match=r"step 3 of .* was not recorded; recorded: \[0, 4,"):
        explorer(folder, step=3)
    with pytest.raises(ValueError, match="prompt '1' was not watched"):
        explorer(folder, prompt="1")
    with pytest.raises(ValueError, match="two stages are called 'r1_zero'"):
        explorer([folder, folder])
    with pytest.raises(ValueError, match="no run was given"):
        explorer([])


def test_the_static_twin_shows_the_open_state_or_the_one_asked_for(explorer, folder):
    shown = explorer(folder)
    assert shown.static().get_suptitle().startswith("Step 8,") and shown.alt_text().startswith("Step 8,")
    shown.view.at = 20
    assert shown.static().get_suptitle().startswith("Step 20,")
    twin = shown.static(step=0, prompt=shown.prompt.options[1])
    assert twin.get_suptitle().startswith(f"Before training, “{shown.prompt.options[1]}”")
    assert "Behind them the band" in twin.alt and shown.view.at == 20
    with pytest.raises(ValueError, match="stage='x' was not recorded"):
        shown.static(stage="x")


def test_a_run_under_way_is_watched_stopped_and_resumed(explorer, run):
    shown = explorer(run())
    assert "press Start" in shown.notice.value and shown.view.group["step"] == 0 and shown.stop.disabled
    shown.start.click()
    assert shown.start.disabled and not shown.stop.disabled
    wait_for(lambda: shown.view.at >= 3)
    assert shown.live.running and "Training, step" in shown.notice.value
    assert shown.view.group["step"] == shown.view.at, "who looks at the newest step is taken along"
    shown.view.at = 1
    known = len(shown.view.steps)
    wait_for(lambda: len(shown.view.steps) > known + 1)
    assert shown.view.at == shown.view.group["step"] == 1, "who looks back stays there"
    shown.stop.click()
    assert not shown.live.running and "Stopped." in shown.notice.value and not shown.start.disabled
    assert shown.view.steps[-1] == len(shown.live.records) == shown.view.curves["last"]
    assert len(shown.live.groups) == 2 * (1 + len(shown.live.records)), "each of two prompts is taken once a step"
    stopped = shown.view.steps[-1]
    shown.start.click()
    wait_for(lambda: shown.view.steps[-1] > stopped)


def test_a_run_that_ends_says_so(explorer, run):
    shown = explorer(run(steps=2))
    shown.start.click()
    wait_for(lambda: "The run is over, at step 2" in shown.notice.value)
    assert shown.start.disabled and shown.stop.disabled and shown.view.at == 2


def test_an_error_in_the_thread_appears_in_the_explorer(explorer, run, monkeypatch):
    background = run()
    shown = explorer(background)
    monkeypatch.setattr(background.trainer, "sample", lambda *a, **k: 1 / 0)
    shown.start.click()
    wait_for(lambda: "ended at step 0 with ZeroDivisionError" in shown.notice.value)
    assert shown.stop.disabled


def test_a_newer_explorer_stops_the_older_ones_run(explorer, run):
    first = explorer(run())
    first.start.click()
    wait_for(lambda: first.live.records)
    explorer(run())
    assert not first.live.running
    wait_for(lambda: "a newer explorer was opened" in first.notice.value)


def test_start_turns_to_the_run_from_a_recorded_one(explorer, folder, run):
    shown = explorer({"recorded": folder, "yours": run()}, stage="recorded", band={"yours": folder / "band.json"})
    assert shown.stage.value == "recorded" and shown.view.at == 8
    shown.start.click()
    assert shown.stage.value == "yours" and shown.view.curves["panels"][2]["band"] is not None
    wait_for(lambda: shown.view.at >= 2)


def test_closing_ends_both_threads(explorer, run):
    shown = explorer(run())
    shown.start.click()
    wait_for(lambda: shown.live.records)
    shown.close()
    assert not shown.live.running
    wait_for(lambda: not [t for t in threading.enumerate() if t.name in ("minimoe training", "minimoe explorer")])


def test_a_run_without_groups_is_refused():
    class Plain:
        records, running = [], False

        def start(self):
            pass

    with pytest.raises(ValueError, match="Plain has no groups: it records no answers to watch"):
        RolloutExplorer(Plain())


def test_before_anything_is_recorded_the_twin_says_what_to_press():
    class Empty:
        records, groups, running = [], [], False

        def start(self):
            pass

    shown = RolloutExplorer(Empty())
    assert "press Start" in shown.static().alt and shown.view.group == {} and shown.view.steps == []
