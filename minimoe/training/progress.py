"""One line that says how far a run is and how long it still takes.

In a terminal and in a notebook the line is rewritten in place; in a log file a few lines appear, one for each quarter.
"""

import sys
import time

__all__ = ["ProgressLine"]

WIDTH = 24
REFRESH_S = 0.25


class ProgressLine:
    """`update(fraction, text)` as often as you like; it draws at most a few times a second. `close()` at the end."""

    def __init__(self, label: str, stream=None, clock=time.monotonic):
        self.label, self.stream, self.clock = label, stream or sys.stdout, clock
        self.start_s, self.drawn_s, self.quarter = clock(), float("-inf"), -1
        self.fraction, self.text = 0.0, ""
        # A notebook's stdout obeys a carriage return, though it is no terminal and knows no escape codes.
        in_notebook = stream is None and "ipykernel" in sys.modules
        self.in_place, self.erase = in_notebook or self.stream.isatty(), "" if in_notebook else "\x1b[K"

    def line(self) -> str:
        """The line as it stands now."""
        elapsed_s = self.clock() - self.start_s
        filled = round(WIDTH * self.fraction)
        parts = [f"{self.label} [{'#' * filled}{'.' * (WIDTH - filled)}] {self.fraction:4.0%}"]
        if self.fraction >= 1:
            parts.append(f"{_minutes(elapsed_s)} taken")
        elif self.fraction > 0:
            parts.append(f"{_minutes(elapsed_s / self.fraction - elapsed_s)} left")
        return "  ".join([*parts, self.text]).rstrip()

    def update(self, fraction: float, text: str = "") -> None:
        """Note the state, and draw it if it is time to."""
        self.fraction, self.text = min(max(fraction, 0.0), 1.0), text
        if self.in_place and self.clock() - self.drawn_s >= REFRESH_S:
            self._draw()
        elif not self.in_place and int(4 * self.fraction) > self.quarter:
            self.quarter = int(4 * self.fraction)
            self._draw()

    def close(self) -> None:
        """Draw the last state and end the line."""
        if self.in_place:
            self._draw()
            self.stream.write("\n")
            self.stream.flush()

    def _draw(self) -> None:
        self.drawn_s = self.clock()
        if self.in_place:
            self.stream.write(f"\r{self.line()}{self.erase}")
        else:
            self.stream.write(self.line() + "\n")
        self.stream.flush()


def _minutes(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"
