"""What KernelStepper's decode view says and draws: title, the step in words, and the numbers of a frame.

How the production version differs: see `minimoe_widgets.kernel_stepper_words`.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from minimoe_kernels.kernel import cdiv
from minimoe_kernels.sim.state import Counts
from minimoe_widgets.kernel_stepper_decode_trace import LATENT, ROTARY

__all__ = ["AT_WORK", "DONE", "WAITING", "DecodePicture", "Share"]

ENTRY = 2 * (LATENT + ROTARY)  # bytes of one entry of the cache
WAITING, AT_WORK, DONE = 0, 1, 2


@dataclass(frozen=True)
class Share:
    """One program of the first launch: its place, its entries [first, end), how many it has read, its condition."""

    place: tuple
    first: int
    end: int
    read: int
    condition: int


class DecodePicture:
    """A trace after `at` of its steps: numbers and sentences."""

    def __init__(self, found, at: int):
        self.found, self.at = found, at
        self.done = found.steps[:at]
        self.current = found.steps[at - 1] if at else None
        bytes_each = [step.counts.bytes for step in found.steps]
        cache_each = [step.loaded.get("cache", 0) for step in found.steps]
        self.moved, self.cache = [0, *accumulate(bytes_each)], [0, *accumulate(cache_each)]

    @property
    def counts(self) -> Counts:
        """Bytes and FLOPs so far."""
        return sum((step.counts for step in self.done), Counts())

    @property
    def once(self) -> int:
        """Bytes of the entries of all sequences."""
        return ENTRY * sum(self.found.asked.lengths)

    @property
    def longest(self) -> int:
        """Blocks of the program that has most of them."""
        return max(len(steps) - 1 for steps in self.found.programs)

    @property
    def head_blocks(self) -> int:
        return cdiv(self.found.asked.heads, self.found.block_h)

    def times(self) -> np.ndarray:
        """How often each row of the cache has been read, (pages, page)."""
        cache = self.found.tensors[1]
        rows = [step.rows for step in self.done]
        counts = np.bincount(np.concatenate(rows) if rows else np.zeros(0, int), minlength=len(cache) * cache.shape[1])
        return counts.reshape(cache.shape[:2])

    def pages(self) -> list[list[int]]:
        """Physical pages of each sequence, as its row of the block table names them."""
        asked, table = self.found.asked, self.found.tensors[2]
        return [table[b, : cdiv(n, asked.page)].tolist() for b, n in enumerate(asked.lengths)]

    def filled(self) -> np.ndarray:
        """Which rows of the cache hold an entry, (pages, page)."""
        page, cache = self.found.asked.page, self.found.tensors[1]
        out = np.zeros(cache.shape[:2], bool)
        for n, pages in zip(self.found.asked.lengths, self.pages(), strict=True):
            for j, number in enumerate(pages):
                out[number, : n - j * page] = True
        return out

    def shares(self) -> list[Share]:
        """Every program of the first launch."""
        run, out = Counter(step.place for step in self.done if step.kind != "combine"), []
        for steps in self.found.programs:
            last, ran = steps[-1], run[steps[0].place]
            first = int(last.state["first"])
            end = max(first, int(last.state["end"]))
            condition = AT_WORK if 0 < ran < len(steps) else DONE if ran else WAITING
            read = sum(step.rows.size for step in steps[:ran])
            out.append(Share(last.place, first, end, read, condition))
        return out

    def title(self) -> str:
        now, count = self.counts, len(self.found.programs)
        return (
            f"{self.at} of {len(self.found.steps)} steps: {now.bytes:,} bytes, {now.flops:,} FLOPs, "
            f"{now.intensity:.1f} a byte. {_many(count, 'program')}, the longest of {_many(self.longest, 'block')}"
        )

    def state(self) -> str:
        """The step that ran last, in words."""
        if not self.current:
            return "No program has run yet."
        said = {"block": self._said_block, "store": self._said_store, "combine": self._said_combine}
        return f"{said[self.current.kind]()} {self._said_bytes()}"

    def _who(self) -> str:
        sequence, block, share = self.current.place
        first = block * self.found.block_h
        last = min(self.found.asked.heads, first + self.found.block_h) - 1
        return f"Program {self.current.place}, sequence {sequence}, heads {first} to {last}, share {share}"

    def _blocks(self) -> int:
        return sum(step.place == self.current.place and step.kind == "block" for step in self.found.steps)

    def _said_block(self) -> str:
        step = self.current
        first = int(step.state["first"]) + step.block * self.found.block_s
        page = list(dict.fromkeys((step.rows // self.found.asked.page).tolist()))
        raised, real = self.raised()
        blocks, pages = self._blocks(), f"page{'s' * (len(page) > 1)} {' and '.join(map(str, page))}"
        one = f"Head {self._head()}: maximum {step.state['peak'][0]:.2f}, sum {step.state['total'][0]:.2f}."
        change = "The first maximum and sum of every head."
        if step.block:
            least = float(step.state["shrink"][:real].min())
            change = f"The maximum rises for {raised} of {_many(real, 'head')}; their sums shrink, one of them to {least:.2f} of itself." if raised else "No maximum rises, so no sum shrinks."  # fmt: skip  # noqa: E501
        return (
            f"{self._who()}: block {step.block + 1} of {blocks}, entries {first} to {first + step.rows.size - 1}, "
            f"in {pages}. {change} {one}"
        )

    def _said_store(self) -> str:
        state = self.current.state
        if not self._blocks():
            return f"{self._who()}: no entries fall to it. It stores zeros with a log-sum of -inf."
        return (
            f"{self._who()} stores its result, the output divided by the sum, and one log-sum a head, in float32. "
            f"Head {self._head()}: log-sum {state['log_sum'][0]:.2f} = {state['peak'][0]:.2f} + ln "
            f"{state['total'][0]:.2f}."
        )

    def _said_combine(self) -> str:
        sequence, asked = self.current.place[0], self.found.asked
        shares = _many(asked.splits, "share")
        head = f"Second launch, sequence {sequence}: {asked.heads} programs, one a head, weigh {shares}."
        if not asked.lengths[sequence]:
            return f"{head} All are empty: the output is zeros."
        return f"{head} Head 0: {', '.join(f'{weight:.2f}' for weight in self.weights()[0])}."

    def _said_bytes(self) -> str:
        moves = (("Loads", self.current.loaded), ("Stores", self.current.stored))
        parts = [f"{verb} " + ", ".join(f"{n} {size:,}" for n, size in sizes.items()) for verb, sizes in moves if sizes]
        return "; ".join([parts[0], *(part.lower() for part in parts[1:])]) + " bytes."

    def _head(self) -> int:
        return self.current.place[1] * self.found.block_h

    def real(self) -> int:
        """Heads of the current program that are no padding."""
        if self.current.kind == "combine":
            return self.found.asked.heads
        return min(self.found.block_h, self.found.asked.heads - self._head())

    def before(self) -> dict:
        """The program's variables before the current block; none before its first."""
        step = self.current
        return self.found.steps[self.at - 2].state if step.kind == "block" and step.block else {}

    def raised(self) -> tuple[int, int]:
        """(heads whose maximum the current block has raised, heads of the program)."""
        real, old = self.real(), self.before().get("peak")
        rose = self.current.state["peak"][:real] > (-np.inf if old is None else old[:real])
        return int(rose.sum()), real

    def weights(self) -> np.ndarray:
        """In a combination: the share of each head's output that each share of the sequence has, (H, splits)."""
        state = self.current.state
        return state["weights"][:, : self.found.asked.splits] / np.where(state["total"] > 0, state["total"], 1)[:, None]

    def most(self) -> dict:
        """The largest and smallest of what is drawn, over all steps, so that steps can be compared."""
        steps = self.found.steps
        peaks = [p[np.isfinite(p)] for s in steps if s.kind != "combine" for p in [s.state["peak"]]]
        peaks = np.concatenate([np.zeros(1), *peaks])
        walks = [s.state for s in steps if s.kind != "combine"]
        return {
            "low": float(peaks.min()), "high": float(peaks.max()),
            "total": max(float(s["total"].max()) for s in walks) or 1.0,
            "acc": max(float(np.abs(s["acc"]).max()) for s in walks) or 1.0,
            "out": max(float(np.abs(s["finished"]).max()) for s in walks if "finished" in s) or 1.0,
        }  # fmt: skip

    def inside(self) -> dict | None:
        """What the current step's variables are, one row a head: arrays, and the name of the map at the right."""
        if not self.current:
            return None
        step, state, most = self.current, self.current.state, self.most()
        if step.kind == "combine":
            return {"kind": "combine", "real": self.real(), "map": state["out"], "most": most["out"],
                    "name": "output", "weights": self.weights()}  # fmt: skip
        old, rows = self.before(), len(state["peak"])
        none = np.zeros(rows, np.float32)
        name = "unfinished output" if step.kind == "block" else "partial result"
        return {
            "kind": step.kind, "real": self.real(), "name": name, "low": most["low"], "high": most["high"],
            "map": state["acc" if step.kind == "block" else "finished"],
            "most": most["acc" if step.kind == "block" else "out"], "most_total": most["total"],
            "peak": state["peak"], "old_peak": old.get("peak", none - np.inf), "total": state["total"],
            "old_total": old.get("total", none),
            "kept": old["total"] * state["shrink"] if old else (none if step.kind == "block" else state["total"]),
        }  # fmt: skip

    def alt(self) -> str:
        asked, cache = self.found.asked, self.found.tensors[1]
        pages = "; ".join(
            f"sequence {b}, {n} entries in pages {', '.join(map(str, p))}" if n else f"sequence {b}, no entries"
            for b, (n, p) in enumerate(zip(asked.lengths, self.pages(), strict=True))
        )
        times = _many(int(self.times().max()), "time")
        return (
            f"{self.title()}. {self.state()} {asked.heads} heads in {_many(self.head_blocks, 'block')} of "
            f"{self.found.block_h}, {_many(asked.splits, 'share')} a sequence. {pages[0].upper()}{pages[1:]}. Below "
            f"them the {len(cache)} pages of the cache; entries read so far up to {times}. "
            f"Then maximum, sum and output of each head. Last, bytes step by step: {self.moved[-1]:,} in the end, "
            f"{self.cache[-1]:,} of them from the cache, whose entries are {self.once:,} bytes."
        )

    def frame(self) -> dict:
        """What `kernel_stepper_decode.js` reads."""
        asked, inside, times, filled = self.found.asked, self.inside(), self.times(), self.filled()
        if inside:
            inside["width"], inside["rows"] = inside["map"].shape[1], len(inside["map"])
            inside = {n: v.astype("<f4").tobytes() if isinstance(v, np.ndarray) else v for n, v in inside.items()}
        return {
            "title": self.title(), "alt": self.alt(), "at": self.at, "page": asked.page, "splits": asked.splits,
            "head_blocks": self.head_blocks, "lengths": list(asked.lengths), "tables": self.pages(),
            "shares": [[*s.place, s.first, s.end, s.read, s.condition] for s in self.shares()],
            "times": times.astype(np.uint8).tobytes(), "filled": filled.astype(np.uint8).tobytes(),
            "now": self.current.rows.tolist() if self.current else [],
            "combined": [step.place[0] for step in self.done if step.kind == "combine"],
            "working": list(self.current.place) if self.current else [],
            "inside": inside, "moved": self.moved, "cache": self.cache, "once": self.once,
        }  # fmt: skip


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
