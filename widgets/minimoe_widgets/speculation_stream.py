"""Two lanes of tokens that fill as time passes: plain decoding above, speculative decoding below, one clock for both.

`pack_race` turns two runs into names and numbers; `SpeculationStream` carries them to the browser, where
`speculation.js` plays them back at a pace that can be followed. Every box is one call of the trunk. In the lower lane
it opens with the draft that was checked: kept, or struck out and followed by the trunk's own token.

How the production version differs: tokens are streamed to the reader in the order of the text; which of them were
drafted is nobody's business.
"""

from itertools import accumulate
from pathlib import Path

import anywidget
import traitlets

__all__ = ["SpeculationStream", "pack_race"]


def pack_race(runs, label, title: str, alt: str) -> dict:
    """What `speculation.js` reads. `runs`: (plain, speculative); `label`: from a token id to a short text."""
    lanes = []
    for name, run in zip(("plain", "speculative"), runs, strict=True):
        ends_ms = accumulate(step.cpu_ms for step in run.steps)
        steps = [
            {
                "tokens": [label(token) for token in step.tokens],
                "draft": None if step.draft is None else label(step.draft),
                "kept": step.kept,
                "chance": step.chance,
                "end_ms": end_ms,
            }
            for step, end_ms in zip(run.steps, ends_ms, strict=True)
        ]
        lanes.append({"name": name, "cpu_ms": run.cpu_ms, "steps": steps})
    return {"title": title, "alt": alt, "cpu_ms": max(run.cpu_ms for run in runs), "lanes": lanes}


class SpeculationStream(anywidget.AnyWidget):
    """The two lanes. Set `frame` to a `pack_race` and they are played from the start."""

    _esm = Path(__file__).with_name("speculation.js")
    frame = traitlets.Dict().tag(sync=True)
