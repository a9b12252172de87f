"""Lets the library's tests import `official_models` and `model_draws`, which are shared by several of them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "parity"))
