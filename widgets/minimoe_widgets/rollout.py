"""RolloutExplorer: scrub through reinforcement learning and see what it does to the answers to one prompt.

Every answer is a row of tokens, each coloured by how much likelier RL has made it; beside it what it was paid and the
advantage it got within its group. Above are the curves of the run, with the band of several seeds behind them. All of
it was recorded by `minimoe.rl`; the explorer subtracts two log-probabilities for each token and computes nothing else.

Callbacks may arrive on another thread than the one that runs cells (JupyterLab uses subshells), and so does the picture
of a run under way, hence the lock.

How the production version differs: rewards of a run of weeks are watched; its answers are read by the few who suspect
that the reward is being hacked.
"""

import threading
from pathlib import Path

import ipywidgets as widgets

from minimoe_widgets.rollout_log import Band, Stage, load_stages
from minimoe_widgets.rollout_run import LiveStage, is_run
from minimoe_widgets.rollout_twin import draw_twin
from minimoe_widgets.rollout_view import RolloutView, is_wrong, pack_curves, pack_group
from minimoe_widgets.rollout_words import curves_alt, group_alt, title
from minimoe_widgets.text_input import said
from minimoe_widgets.twin import Twin

__all__ = ["RolloutExplorer"]

PAUSE_S = 0.25
HINT = (
    "Try first: move Step from left to right, and watch which tokens become more likely (bar above) before most "
    "answers are right."
)
LIVE_HINT = "Try first: press Start, let some steps pass, then move Step back to see what the answers were before."
SHOWN = {"all answers": False, "only the wrong ones": True}


class RolloutExplorer(widgets.VBox):
    """The answers to a watched prompt at every recorded step: rewards, advantages, log-ratios; and the run's curves.

    Takes the folder of a recorded run (`log.jsonl`, `groups.jsonl`, `band.json` if there is one); or a run under way,
    which has `records`, `groups`, `running`, `start()` and `stop()`; or several of either as stages, a list or
    {name: run}. `band`: a file or its contents for a single stage, else {stage: file}. `stage`, `prompt` and `step` are
    where it opens; without `step` where answers are most divided. Raises what `load_stages` raises, and ValueError for
    a stage, prompt or step that was not recorded. Chapter 10.
    """

    def __init__(self, runs, band=None, stage: str | None = None, prompt: str | None = None, step: int | None = None):
        self._lock = threading.RLock()
        self._closed = self._following = self._switching = False
        self.stages = _with_bands(_stages(runs), band)
        if stage is not None and stage not in self.stages:
            raise ValueError(f"stage={stage!r} was not recorded; the stages are {', '.join(self.stages)}")
        self.live = next((one for one in self.stages.values() if isinstance(one, LiveStage)), None)
        first = self.stages[stage] if stage is not None else next(iter(self.stages.values()))
        if prompt is not None or step is not None:
            prompt = prompt if prompt is not None else next(iter(first.problems), "")
            step = step if step is not None else _divided(first, prompt)
            first.group(prompt, step)  # says what there is, if not this
        self._build(first, prompt)
        super().__init__(self._arrange())
        self._open_stage(prompt, step)
        self._observe()

    def _build(self, first: Stage, prompt):
        style, wide = {"description_width": "auto"}, {"width": "auto", "max_width": "100%"}
        self.stage = widgets.Dropdown(
            options=list(self.stages), value=first.name, description="Stage", style=style, layout=wide
        )
        self.prompt = widgets.Dropdown(options=[], description="Prompt", style=style, layout=wide)
        self.shown = widgets.ToggleButtons(options=SHOWN, value=False)
        self.shown.style.button_width = self.shown.layout.width = "auto"
        button = {"width": "90px"}
        self.start = widgets.Button(description="Start", icon="play", button_style="primary", layout=button)
        self.stop = widgets.Button(description="Stop", icon="stop", layout=button)
        self.notice = widgets.HTML()
        self.view = RolloutView(layout={"width": "100%", "min_width": "0", "overflow": "hidden"})

    def _arrange(self):
        flow = {"flex_flow": "row wrap", "align_items": "center", "width": "100%", "overflow": "visible"}
        run = [widgets.Box([self.start, self.stop], layout=flow)] if self.live else []
        picks = [self.stage] if len(self.stages) > 1 else []
        controls = widgets.Box([*picks, self.prompt, self.shown], layout=flow)
        return [widgets.HTML(said(LIVE_HINT if self.live else HINT)), *run, controls, self.notice, self.view]

    def _observe(self):
        self.stage.observe(self._guarded(self._open_stage), "value")
        self.prompt.observe(self._guarded(lambda: self._switching or self._open_prompt()), "value")
        self.shown.observe(self._guarded(self._show_answers), "value")
        self.view.observe(self._guarded(self._show_answers), "at")
        self.start.on_click(self._guarded(self._on_start))
        self.stop.on_click(self._guarded(self._on_stop))

    def _guarded(self, act):
        """`act` under the lock; what it raises is said in the explorer, since a callback has nobody to raise to."""

        def call(_):
            with self._lock:
                try:
                    act()
                except Exception as error:
                    self._say(f"{type(error).__name__}: {error}")

        return call

    @property
    def _stage(self) -> Stage:
        return self.stages[self.stage.value]

    def _open_stage(self, prompt: str | None = None, step: int | None = None):
        """Show the chosen stage; with the same prompt as before, if it was watched there too."""
        problems = self._stage.problems
        wanted = prompt if prompt is not None else self.prompt.value
        if list(self.prompt.options) != problems:
            self._switching = True  # new options choose the first of themselves, which nobody asked for
            self.prompt.options = problems
            self.prompt.value = wanted if wanted in problems else next(iter(problems), None)
            self._switching = False
        self.prompt.disabled = not problems
        with self.view.hold_sync():
            self.view.curves = pack_curves(self._stage, curves_alt(self._stage))
            self._open_prompt(step)
        self._show_state()

    def _open_prompt(self, step: int | None = None):
        """Show the chosen prompt: at `step`, or at the one shown before, or where answers are most divided."""
        problem, steps = self.prompt.value, self._stage.steps(self.prompt.value)
        with self.view.hold_sync():
            kept = self.view.at if self.view.at in steps and self.view.group else None
            self.view.steps = steps
            self.view.at = step if step is not None else kept if kept is not None else _divided(self._stage, problem)
            self._show_answers()

    def _show_answers(self):
        """Show the answers of the step that the view is at."""
        if self.view.at not in self.view.steps:
            self.view.group = {}
            return
        group = self._stage.group(self.prompt.value, self.view.at)
        judged = all(is_wrong(answer) is not None for answer in group["answers"])
        self.shown.disabled = not judged
        self.view.group = pack_group(group, title(group), group_alt(group), judged and self.shown.value)

    def _on_start(self):
        self.live.start()
        if self._stage is not self.live:
            self.stage.value = self.live.name
        self._show_state()
        if not self._following:
            self._following = True
            threading.Thread(target=self._follow, name="minimoe explorer", daemon=True).start()

    def _on_stop(self):
        self.live.stop()
        self._refresh()
        self._show_state()

    def _follow(self):
        """Draw while the run goes on, a few times a second, and once after it."""
        wait = threading.Event()
        while self.live.running and not self._closed:
            wait.wait(PAUSE_S)
            self._guarded(self._refresh)(None)
        with self._lock:
            self._following = False
        if not self._closed:
            self._guarded(self._refresh)(None)
            self._guarded(self._show_state)(None)

    def _refresh(self):
        """Take what the run has recorded. Who looks at the newest step is taken along, who looks back stays there."""
        known = len(self.live.records), len(self.live.groups)
        self.live.read()
        if self._closed or self._stage is not self.live or known == (len(self.live.records), len(self.live.groups)):
            return
        newest = not self.view.steps or self.view.at == self.view.steps[-1]
        if list(self.prompt.options) != self.live.problems:
            self._open_stage()
        with self.view.hold_sync():
            self.view.curves = pack_curves(self.live, curves_alt(self.live))
            self.view.steps = steps = self.live.steps(self.prompt.value)
            if newest and steps and self.view.at != steps[-1]:
                self.view.at = steps[-1]
        if self.live.running:
            self._say(self.live.state())

    def _show_state(self):
        stage, words = self._stage, list(self._stage.notes)
        if self.live is not None:
            self.start.disabled, self.stop.disabled = self.live.running or self.live.over, not self.live.running
        if stage is self.live:
            words.append(self.live.state())
        elif not stage.groups:
            words.append("In this stage no answers were recorded: it learns from given ones.")
        self._say(" ".join(words))

    def _say(self, text: str):
        value = said(text)
        if value != self.notice.value:  # a screen reader reads it out each time it is set
            self.notice.value = value

    def static(self, step: int | None = None, prompt: str | None = None, stage: str | None = None) -> Twin:
        """What is shown, or the given step, prompt and stage, as a matplotlib figure that needs no kernel."""
        with self._lock:
            if stage is not None and stage not in self.stages:
                raise ValueError(f"stage={stage!r} was not recorded; the stages are {', '.join(self.stages)}")
            shown = self._stage if stage is None else self.stages[stage]
            if not shown.records and not shown.groups:
                return Twin("No step is trained yet, so there is nothing to see: press Start.", 6.4, 0.6)
            if not shown.groups:
                return draw_twin(shown, None, f"{shown.name}: no answers were recorded", curves_alt(shown))
            if prompt is None:
                prompt = self.prompt.value if self.prompt.value in shown.problems else shown.problems[0]
            if step is None:
                step = self.view.at if self.view.at in shown.steps(prompt) else _divided(shown, prompt)
            group = shown.group(prompt, step)
            alt = f"{group_alt(group)} {curves_alt(shown)}"
            return draw_twin(shown, group, title(group), alt, self.shown.value and not self.shown.disabled)

    def alt_text(self, step: int | None = None) -> str:
        """The picture in words."""
        return self.static(step).alt

    def close(self):
        """Stop a run under way and take the widget off the page."""
        self._closed = True
        if getattr(self, "live", None) is not None:  # a widget is closed also when its making failed
            self.live.stop()
        super().close()

    def __repr__(self) -> str:
        return "RolloutExplorer (live: run this cell in Jupyter; the figure below shows the same state)"


def _stages(runs) -> dict[str, Stage]:
    """The stages of all that was given, by name."""
    if isinstance(runs, dict):
        named = list(runs.items())
    else:
        named = [(None, run) for run in (runs if isinstance(runs, (list, tuple)) else [runs])]
    if not named:
        raise ValueError("no run was given: name the folder of a recorded one, or hand over a run under way")
    stages: dict[str, Stage] = {}
    for name, run in named:
        for stage in [LiveStage(name or "this run", run)] if is_run(run) else load_stages(Path(run), name):
            if stage.name in stages:
                raise ValueError(f"two stages are called {stage.name!r}: give the runs as a dictionary, by name")
            stages[stage.name] = stage
    return stages


def _with_bands(stages: dict[str, Stage], band) -> dict[str, Stage]:
    if band is None:
        return stages
    if not isinstance(band, dict) or "columns" in band:
        if len(stages) > 1:
            raise ValueError(f"of which stage is the band? Give {{stage: band}}; the stages are {', '.join(stages)}")
        band = dict.fromkeys(stages, band)
    for name, one in band.items():
        if name not in stages:
            raise ValueError(f"there is a band of stage {name!r}; the stages are {', '.join(stages)}")
        stages[name].band = Band.load(one)
    return stages


def _divided(stage: Stage, problem: str | None) -> int:
    """The step to open at: where the right answers are nearest to half; of a run under way the newest."""
    steps = stage.steps(problem)
    if not steps or isinstance(stage, LiveStage):
        return steps[-1] if steps else 0

    def off_half(step: int) -> float:
        answers = stage.group(problem, step)["answers"]
        return abs(sum(is_wrong(answer) is False for answer in answers) - len(answers) / 2)

    return min(steps, key=off_half)
