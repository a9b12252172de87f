"""The sentences of RolloutExplorer: the title that is the message, a step in numbers, the picture in words.

How the production version differs: the same numbers are columns of a table of runs.
"""

import math
from statistics import mean

from minimoe_widgets.rollout_log import Stage
from minimoe_widgets.rollout_view import is_wrong, panels, piece_label

__all__ = ["curves_alt", "group_alt", "moment", "title"]


def moment(step: int) -> str:
    """How a step is called: 0 is before anything was learned."""
    return f"Step {step}" if step else "Before training"


def title(group: dict) -> str:
    """How many of the answers are right, how long they are, and whether the group can teach anything."""
    answers = group["answers"]
    if not answers:
        return f"{moment(group['step'])}, “{group['problem']}”: no answer was sampled"
    tokens = mean(len(answer["pieces"]) for answer in answers)
    wrong = [is_wrong(answer) for answer in answers]
    if None in wrong:
        score = f"mean reward {mean(answer['reward'] for answer in answers):.2f}"
    else:
        right = wrong.count(False)
        score = f"{right} of {len(answers)} answers {'is' if right == 1 else 'are'} right"
    cut = sum(not answer["ended"] for answer in answers)
    said = f"{moment(group['step'])}, “{group['problem']}”: {score}, {tokens:.1f} tokens on average"
    said += f", {cut} cut off" if cut else ""
    if all(answer["advantage"] == 0 for answer in answers):
        said += ". All rewards are equal: no answer has an advantage, and the group teaches nothing"
    return said


def group_alt(group: dict) -> str:
    """The rows in words: the title, and the token whose chance has changed most."""
    rows = f"{title(group)}. {len(group['answers'])} rows of tokens, coloured by log-ratio to the start."
    changed = [
        (policy - reference, piece)
        for answer in group["answers"]
        for policy, reference, piece in zip(answer["logprobs"], answer["reference"], answer["pieces"], strict=True)
    ]
    ratio, piece = max(changed, key=lambda pair: abs(pair[0]), default=(0.0, ""))
    if abs(ratio) < 0.005:
        return f"{rows} No token's chance differs from what it was."
    change = f"{_times(math.exp(min(abs(ratio), 700.0)))} times {'more' if ratio > 0 else 'less'} likely"
    return f"{rows} The one that changed most: “{piece_label(piece)}”, {change} ({ratio:+.2f})."


def curves_alt(stage: Stage) -> str:
    """The curves in words: from where to where each went, and what stands behind them."""
    parts = []
    for panel in panels(stage):
        for name, steps, values in panel.series:
            where = f"steps {steps[0]} to {steps[-1]}"
            parts.append(f"{panel.title}, {name}: {values[0]:.3g} to {values[-1]:.3g} over {where}")
    if not parts:
        return f"{stage.name}: no curve has been recorded yet."
    seeds = f"{stage.band.seeds} seeds" if stage.band and stage.band.seeds else "several seeds"
    behind = f" Behind them the band from the lowest to the highest of {seeds}." if stage.band else ""
    return f"{stage.name}. {'; '.join(parts)}.{behind}"


def _times(factor: float) -> str:
    return f"{factor:.1f}" if factor < 100 else f"{factor:.0e}" if factor > 1e5 else f"{factor:.0f}"
