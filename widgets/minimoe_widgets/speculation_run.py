"""One prompt continued twice, plainly and with drafts: what every call of the trunk gave, and what it took.

The explorer shows two runs side by side, so both are measured here, in turns and more than once: a busy machine then
slows both, and the median of the rounds is kept for every call. The clock is the processor time of this process.

How the production version differs: engines export drafted and accepted tokens as counters, and switch drafting off when
a full batch makes it a loss.
"""

import statistics
import time
from dataclasses import dataclass

from minimoe.inference.generate import generate

__all__ = ["ROUNDS", "Run", "Step", "race"]

ROUNDS = 3


@dataclass(frozen=True)
class Step:
    """One call of the trunk. `tokens`: what it gave; `draft`: the token it checked (None: it checked none), `kept`:
    whether that stayed, `chance`: the probability that it would; `cpu_ms`: from the end of the call before, drafting
    included."""

    tokens: list[int]
    draft: int | None
    kept: bool
    chance: float | None
    cpu_ms: float


@dataclass(frozen=True)
class Run:
    """One continuation, call by call; the first call reads the prompt."""

    steps: list[Step]

    @property
    def tokens(self) -> list[int]:
        """The new tokens."""
        return [token for step in self.steps for token in step.tokens]

    @property
    def cpu_ms(self) -> float:
        """Processor time of the whole run."""
        return sum(step.cpu_ms for step in self.steps)

    @property
    def drafted(self) -> int:
        """How many drafts were checked."""
        return sum(step.draft is not None for step in self.steps)

    @property
    def kept(self) -> int:
        """How many drafts stayed."""
        return sum(step.kept for step in self.steps)


def race(model, ids: list[int], new_tokens: int, temperature: float, seed: int, rounds: int = ROUNDS):
    """`ids` continued by `new_tokens` tokens, plainly and speculatively: two `Run`s, measured in turns.

    The same seed gives the same tokens in every round, so each call has `rounds` times, of which the median counts.
    No token ends the text early: both runs have the same work to do. Raises what `generate` raises.
    """
    seen = {False: [], True: []}
    for turn in range(rounds):
        for speculative in (False, True) if turn % 2 == 0 else (True, False):
            seen[speculative].append(_timed(model, ids, new_tokens, temperature, seed, speculative))
    return tuple(_median(seen[speculative]) for speculative in (False, True))


def _timed(model, ids, new_tokens, temperature, seed, speculative):
    """The passes of one run and the processor time at the end of each, in milliseconds."""
    passes, ends_ms, start = [], [], time.process_time()

    def note(one):
        passes.append(one)
        ends_ms.append((time.process_time() - start) * 1e3)

    generate(model, ids, new_tokens, temperature, seed=seed, stop_tokens=[], speculative=speculative, trace=note)
    return passes, ends_ms


def _median(rounds) -> Run:
    took = [[end - begin for begin, end in zip([0.0, *ends], ends, strict=False)] for _, ends in rounds]
    calls_ms = [statistics.median(times) for times in zip(*took, strict=True)]
    steps = [
        Step(one.tokens[0], one.drafts[0], one.kept[0], one.chances[0], cpu_ms)
        for one, cpu_ms in zip(rounds[0][0], calls_ms, strict=True)
    ]
    return Run(steps)
