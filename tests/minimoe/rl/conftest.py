"""Lets the sandbox's tests import `hostile` and `witness`, which `data/sandbox/measure.py` uses too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
