"""nbval runs the notebooks of this folder; each gets one test more, of its processor time and memory."""

from minimoe_course.budget import pytest_collection_modifyitems

__all__ = ["pytest_collection_modifyitems"]
