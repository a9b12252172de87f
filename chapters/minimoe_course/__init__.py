"""What the chapters share: checks, guesses, hints, receipts, and figures that outlive the kernel.

For instructors. A chapter is a notebook built from a text file. Its exercises are functions of the library, written
again by the reader: the library is the answer key, so there is no second solution to keep in step.
`check("01.rms_norm", fn)` prints one line: "not yet" for an unwritten stub, a tick, or what is wrong in words about
the result. It recognises the plausible mistakes by name, because each exercise lists them with code, and the tests
feed every one of them to the check and demand its message. It refuses a function that calls the library, however it
got hold of it, or that writes into its inputs. It hands back a function to go on with, so a chapter shipped with empty
stubs runs from top to bottom.

To grade, use `grade("01.rms_norm", fn)`, which raises; `python -m minimoe_course.build --nbgrader FOLDER` writes
copies of the chapters with nbgrader's cell markers and such a test below every exercise, and `--blank FOLDER` writes
copies without outputs. To add an exercise, describe it in `chNN.py` (see `Exercise`); to add a chapter, copy the
skeleton in README.md of this folder.

How the production version differs: nbgrader and otter also collect, queue and score. This package only knows what is
right.
"""

from minimoe_course import curves
from minimoe_course.checking import check, grade
from minimoe_course.exercise import Exercise, Law, Wrong
from minimoe_course.figures import bars, heatmap, lines
from minimoe_course.folded import Folded, hints
from minimoe_course.guesses import guess
from minimoe_course.start import data_path, setup
from minimoe_course.tables import compare_table, receipt
from minimoe_course.twins import show

__all__ = ["Exercise", "Folded", "Law", "Wrong", "bars", "check", "compare_table", "curves", "data_path", "grade"]
__all__ += ["guess", "heatmap", "hints", "lines", "receipt", "setup", "show"]
