"""What KernelStepper says: the title, the state of the counters, the picture in words, and the bytes of a frame.

How the production version differs: a profiler's report has the same quotient, FLOPs by bytes, in a table of fifty rows.
"""

from itertools import accumulate

import numpy as np

from minimoe_widgets.kernel_stepper_trace import ITEM, arranged, shared_bytes

__all__ = ["Picture"]


class Picture:
    """A trace, in an order, after `at` of its programs, with `together` of them at a time: numbers and sentences."""

    def __init__(self, found, order: str, together: int, at: int):
        self.found, self.order, self.together, self.at = found, order, together, at
        self.numbers = arranged(found, order, together)
        programs = [found.programs[i] for i in self.numbers]
        self.programs, self.done = programs, programs[:at]
        self.loaded = list(accumulate(p.counts.loaded_bytes for p in programs))
        self.shared = shared_bytes(found, self.numbers, together)
        self.current = programs[at - 1] if at else None

    @property
    def counts(self) -> tuple[int, int, int]:
        """(bytes loaded, bytes stored, FLOPs) so far."""
        each = [p.counts for p in self.done]
        return tuple(sum(getattr(c, name) for c in each) for name in ("loaded_bytes", "stored_bytes", "flops"))

    @property
    def intensity(self) -> float:
        """FLOPs a byte so far."""
        loaded, stored, flops = self.counts
        return flops / (loaded + stored) if loaded + stored else 0.0

    @property
    def stopped(self) -> bool:
        """Whether the program shown is the one that the simulator stopped."""
        return self.found.stopped and self.at == len(self.programs)

    @property
    def ideal(self) -> float:
        """FLOPs a byte of the same product if every matrix crossed the bus once."""
        return self.found.sizes.ideal_flops / self.found.sizes.ideal_bytes

    def title(self) -> str:
        total = len(self.programs)
        if self.stopped:
            return f"Program {self.current.place[:2]} was stopped by the simulator, after {self.at - 1} that were not"
        loaded, stored, _ = self.counts
        more = (loaded + stored) / self.found.sizes.ideal_bytes
        return (
            f"{self.at} of {total} programs: {loaded + stored:,} bytes, {more:.1f} times each matrix once; "
            f"{self.intensity:.1f} FLOPs a byte, ideal {self.ideal:.1f}"
        )

    def state(self) -> str:
        """The program that ran last, and what neighbours share."""
        if not self.current:
            return "No program has run yet."
        one, (loaded, stored, flops) = self.current.counts, self.counts
        shared = self.shared[self.at - 1]
        return (
            f"Program {self.current.place[:2]} loads {one.loaded_bytes:,} and stores {one.stored_bytes:,} bytes, "
            f"{one.flops:,} FLOPs. So far {loaded:,} + {stored:,} bytes and {flops:,} FLOPs. "
            f"If {self.together} programs at a time loaded what they share once: {shared:,} bytes loaded."
        )

    def boxes(self) -> list:
        """What the current program touched: [matrix, first row, first column, past the last row, and column]."""
        out = []
        if self.current:
            for name, (rows, columns) in self.found.sizes.shapes.items():
                at = self.current.stores if name == "C" else np.flatnonzero(self.current.loads[name])
                at = at[(at >= 0) & (at < rows * columns)]
                if at.size:
                    r, c = at // columns, at % columns
                    out.append([name, int(r.min()), int(c.min()), int(r.max()) + 1, int(c.max()) + 1])
        return out

    def shades(self) -> dict:
        """Bytes 0..255 an element: how often of A and B loaded so far, of the most in the end; of C: written or not."""
        shapes, out = self.found.sizes.shapes, {}
        for name in "AB":
            total = sum((p.loads[name] for p in self.programs), np.zeros(shapes[name][0] * shapes[name][1], int))
            sofar = sum((p.loads[name] for p in self.done), np.zeros_like(total))
            out[name] = np.rint(255 * sofar / max(1, total.max())).astype(np.uint8)
        written = np.zeros(shapes["C"][0] * shapes["C"][1], np.uint8)
        first = (self.at - 1) // self.together * self.together if self.at else 0
        for number, program in enumerate(self.done):
            written[program.stores] = 235 if number >= first else 110
        return out | {"C": written}

    def most(self) -> dict:
        """How often the most-loaded element of A and of B is loaded in the end."""
        return {n: int(max(1, sum(p.loads[n] for p in self.programs).max())) if self.programs else 1 for n in "AB"}

    def alt(self) -> str:
        most, sizes = self.most(), self.found.sizes
        order = "the order they ran in" if self.found.stopped else self.order
        return (
            f"{self.title()}. Matrices A {sizes.M} x {sizes.D}, B {sizes.D} x {sizes.F} above and C below right, in "
            f"tiles of {sizes.BLOCK_M} x {sizes.BLOCK_F}; programs in order: {order}. The program that ran last reads "
            f"a band of A and a band of B and writes one tile of C. In the end elements of A are loaded up to "
            f"{most['A']} times, of B up to {most['B']} times. Bytes loaded, program by program: "
            f"{self.loaded[-1] if self.loaded else 0:,} counted, {self.shared[-1] if self.shared else 0:,} if "
            f"{self.together} at a time shared, {ITEM * sizes.D * (sizes.M + sizes.F):,} if A and B were read once."
        )

    def frame(self) -> dict:
        """What `kernel_stepper.js` reads."""
        sizes, most = self.found.sizes, self.most()
        return {
            "title": self.title(), "alt": self.alt(), "at": self.at, "most": most,
            "shapes": {name: list(shape) for name, shape in sizes.shapes.items()},
            "tiles": [sizes.BLOCK_M, sizes.BLOCK_D, sizes.BLOCK_F],
            "shades": {name: shade.tobytes() for name, shade in self.shades().items()},
            "boxes": self.boxes(), "loaded": [0, *self.loaded], "shared": [0, *self.shared],
            "once": ITEM * sizes.D * (sizes.M + sizes.F), "together": self.together,
            "stopped": self.stopped,
        }  # fmt: skip
