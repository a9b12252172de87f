"""What the simulator refuses, and the running program that it names when it does.

A GPU reads past the end of a tensor without a word; the interpreter of Triton does too. Here each such access is an
exception that says which program made it, through which pointer, at which element, and what the mask let through.

How the production version differs: compute-sanitizer finds wild accesses on a GPU by watching every load, at a
slow-down of 10 to 100, and sees only those that leave the allocation.
"""

__all__ = ["OrderDependent", "OutOfBounds", "SimulatorError", "StoreConflict", "Uninitialised"]


class SimulatorError(RuntimeError):
    """A kernel did something that is wrong on a GPU, whatever the values."""


class OutOfBounds(SimulatorError):
    """A load or store outside the elements of its tensor."""


class Uninitialised(SimulatorError):
    """A load of memory that nothing has written, or a result made of lanes that loaded nothing."""


class StoreConflict(SimulatorError):
    """Two lanes of one store write different values to one element."""


class OrderDependent(SimulatorError):
    """The result depends on the order in which programs run; a GPU promises none."""
