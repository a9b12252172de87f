"""What the canvases share: a script in front of each one's own, and the colours.

A widget's code reaches the browser as one ES module and cannot import a file beside it, so the shared functions of
`canvas.js` are put in front of it here.

How the production version differs: a bundler does this when the package is built.
"""

from pathlib import Path

import numpy as np

__all__ = ["script", "viridis"]

FOLDER = Path(__file__).parent


def script(*names: str) -> str:
    """`canvas.js` followed by the files `names` beside it: one module."""
    return "".join((FOLDER / name).read_text(encoding="utf-8") for name in ("canvas.js", *names))


def viridis() -> bytes:
    """256 colours of three bytes each, from dark to light."""
    from matplotlib import colormaps

    return (colormaps["viridis"](np.arange(256))[:, :3] * 255).round().astype(np.uint8).tobytes()
