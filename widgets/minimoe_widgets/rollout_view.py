"""What RolloutExplorer's page is sent: the curves of a stage once, and the answers of one step whenever it changes.

A token is drawn by how its chance has changed, log pi_step - log pi_reference in nats, where the reference is the model
that the run began with: 0 if RL has left the token alone, ln 2 if it is now twice as likely. The page's scale ends at
`LIMIT`, beyond which RL has made a token e times as likely or more; a fixed scale, so that steps can be compared while
one scrubs.

How the production version differs: one looks at samples there, and at means; nobody sees tokens move.
"""

import anywidget
import numpy as np
import traitlets

from minimoe_widgets.canvas import script
from minimoe_widgets.rollout_log import Stage

__all__ = ["LIMIT", "Panel", "RolloutView", "is_wrong", "pack_curves", "pack_group", "panels", "piece_label"]
__all__ += ["span"]

LIMIT = 1.0  # nats, at which the colours end
RIGHT, LANGUAGE = "share of answers that are right", "share of words in the question's language"
# What is drawn of a stage: the title of each panel, and its columns, the one that matters most first.
PANELS = {
    RIGHT: {"evaluation.accuracy": "held out", "accuracy": "training"},
    "tokens an answer": {"evaluation.mean_tokens": "held out", "mean_tokens": "training"},
    "KL to the reference (nats a token)": {"kl": "KL"},
    "share of tokens that are clipped": {"clip_fraction": "clipped"},
}
# Drawn where it was recorded: of tasks in two languages, and of a stage that learns from given answers.
MORE_PANELS = {
    LANGUAGE: {"evaluation.language_zh": "Chinese", "evaluation.language_en": "English"},
    "loss (nats a token)": {"next_token": "training"},
}


class Panel:
    """One plot: `series`, (name, steps, values) each; `band`, (name, steps, lowest, highest) or None; its two ends."""

    def __init__(self, title: str, columns: dict[str, str], stage: Stage):
        self.title = title
        recorded = {column: (name, *stage.column(column)) for column, name in columns.items()}
        self.series = [series for series in recorded.values() if series[1]]
        bands = stage.band.columns if stage.band else {}
        shown = [column for column, series in recorded.items() if series[1]] or list(columns)
        column = next((column for column in shown if column in bands), None)
        self.band = column and (columns[column], *(bands[column][key] for key in ("step", "lowest", "highest")))
        values = [value for _, _, series in self.series for value in series]
        values += [value for ends in (self.band[2:] if self.band else ()) for value in ends if value is not None]
        self.bottom = min(0.0, *values) if values else 0.0
        self.top = 1.0 if title in (RIGHT, LANGUAGE) else (1.05 * max(values, default=0.0) or 1.0)


def panels(stage: Stage) -> list[Panel]:
    """The plots of a stage: the four of reinforcement learning, and what else it recorded, or that alone."""
    usual = [Panel(title, columns, stage) for title, columns in PANELS.items()]
    more = [Panel(title, columns, stage) for title, columns in MORE_PANELS.items()]
    more = [panel for panel in more if panel.series]
    return usual + more if any(panel.series for panel in usual) or not more else more


def span(stage: Stage, drawn: list[Panel]) -> tuple[int, int]:
    """The first and the last step on the axis of all plots."""
    ends = [step for panel in drawn for _, steps, _ in panel.series for step in steps]
    ends += [group["step"] for group in stage.groups]
    ends += [step for panel in drawn if panel.band for step in panel.band[1]]  # where a run under way is heading
    return min(ends, default=0), max(ends, default=0)


def pack_curves(stage: Stage, alt: str) -> dict:
    """The curves as names and bytes: what `rollout_curves.js` reads."""
    drawn = panels(stage)
    first, last = span(stage, drawn)
    seeds = f" of {stage.band.seeds} seeds" if stage.band and stage.band.seeds else ""
    return {
        "alt": alt,
        "first": first,
        "last": last,
        "band": f"grey: lowest to highest{seeds}",
        "panels": [
            {
                "title": panel.title,
                "bottom": panel.bottom,
                "top": panel.top,
                "series": [[name, _floats(steps), _floats(values)] for name, steps, values in panel.series],
                "band": [panel.band[0], *map(_floats, panel.band[1:])] if panel.band else None,
            }
            for panel in drawn
        ],
    }


def pack_group(group: dict, title: str, alt: str, only_wrong: bool = False) -> dict:
    """The answers of one step as rows of tokens: what `rollout.js` reads."""
    rows = []
    for number, answer in enumerate(group["answers"], start=1):
        if only_wrong and not is_wrong(answer):
            continue
        policy, reference = (np.asarray(answer[key], dtype=float) for key in ("logprobs", "reference"))
        rows.append(
            {
                "number": number,
                "verdict": {True: "wrong", False: "right", None: ""}[is_wrong(answer)],
                "pieces": [piece_label(piece) for piece in answer["pieces"]],
                "policy": np.exp(policy).round(4).tolist(),
                "reference": np.exp(reference).round(4).tolist(),
                "ratio": (policy - reference).round(4).tolist(),
                "parts": [[name, float(value)] for name, value in answer["parts"].items()],
                "reward": float(answer["reward"]),
                "advantage": float(answer["advantage"]),
                "ended": bool(answer["ended"]),
            }
        )
    most = max([abs(answer["advantage"]) for answer in group["answers"]], default=0.0)
    return {
        "step": group["step"], "title": title, "alt": alt, "rows": rows, "of": len(group["answers"]), "limit": LIMIT,
        "most": max(most, 1.0),
    }  # fmt: skip


def is_wrong(answer: dict) -> bool | None:
    """Whether the verifier found the answer wrong; None where there is no right answer to verify."""
    accuracy = answer["parts"].get("accuracy")
    return None if accuracy is None else accuracy < 1


def piece_label(piece: str) -> str:
    """One token as readable text: spaces as ␣, line ends as ⏎, an end mark short enough for a line."""
    if piece.startswith("<｜") and piece.endswith("｜>"):
        return f"⟨{piece[2:-2].split('▁')[0]}⟩"
    shown = piece.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in shown) or "∅"


def _floats(values) -> bytes:
    return np.array([np.nan if value is None else value for value in values], dtype="<f4").tobytes()


class RolloutView(anywidget.AnyWidget):
    """Curves, a slider over the recorded steps, and the answers of the chosen one.

    Set `curves` to a `pack_curves`, `steps` to the recorded steps and `group` to a `pack_group`. `at` is the chosen
    step: the page sets it, and the answers to it are expected in `group`.
    """

    _esm = script("rollout_curves.js", "rollout.js")
    curves = traitlets.Dict().tag(sync=True)
    steps = traitlets.List(traitlets.Int()).tag(sync=True)
    at = traitlets.Int(0).tag(sync=True)
    group = traitlets.Dict().tag(sync=True)
