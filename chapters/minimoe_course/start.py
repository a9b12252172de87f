"""What the setup cell of a chapter needs, and where the data is."""

import os
import random
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch

from minimoe_course.figures import STYLE

__all__ = ["data_path", "setup"]


def setup(seed: int = 0) -> None:
    """Seed Python, NumPy and torch, use one torch thread, and set the figures' style.

    One thread, because a small model is no faster with two, results are the same on every machine with the same
    processor, and a shared server does not stall.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    mpl.rcParams.update(STYLE)


def data_path(name: str) -> Path:
    """The folder or file `name` of the repository's `data/`, e.g. `data_path("nano")`.

    Looked for in the folder that MINIMOE_DATA names, then in `data/` beside the working directory or above it (a
    notebook runs in `chapters/`, so `../data`), then in the checkout that an editable install points to. With a
    non-editable install, as on a hub, the notebook's own clone has the data. Raises FileNotFoundError that lists the
    places.
    """
    places = [Path(os.environ["MINIMOE_DATA"])] if "MINIMOE_DATA" in os.environ else []
    here = Path.cwd()
    places += [folder / "data" for folder in (here, *here.parents)]
    places.append(Path(__file__).resolve().parents[2] / "data")
    for place in places:
        if (place / name).exists():
            return place / name
    looked = ", ".join(dict.fromkeys(str(place) for place in places))
    raise FileNotFoundError(
        f"no data/{name}; looked in {looked}. Open the notebook inside the repository, or set MINIMOE_DATA"
    )
