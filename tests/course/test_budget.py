"""The budget of a chapter: measured in the kernel's process, and able to fail."""

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from minimoe_course import budget
from minimoe_course.budget import MAX_CPU_S, MAX_PEAK_BYTES, over_budget, peak_bytes


def test_within_the_budget_nothing_is_said():
    assert over_budget(MAX_CPU_S, MAX_PEAK_BYTES) == []


def test_each_excess_is_named_with_both_numbers():
    assert over_budget(61.04, 0) == ["used 61.0 s of processor time; at most 60 s"]
    assert over_budget(0, 1_230_000_000) == ["held 1.23 GB; at most 1.0 GB"]
    assert len(over_budget(61, 2_000_000_000)) == 2


def test_the_peak_remembers_memory_that_has_been_given_back():
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    torch.ones(50_000_000)  # 200 MB, freed at once
    assert peak_bytes(process) >= before + 150_000_000


def test_a_kernel_over_the_budget_fails_its_notebook(monkeypatch):
    manager = SimpleNamespace(provisioner=SimpleNamespace(pid=os.getpid()))
    notebook = SimpleNamespace(kernel=SimpleNamespace(km=manager), path=Path("01_x.ipynb"))
    item = SimpleNamespace(parent=notebook, user_properties=[], add_report_section=lambda *parts: None)
    # This process runs many tests, so its own use says nothing: the limits are moved to either side of it.
    monkeypatch.setattr(budget, "MAX_PEAK_BYTES", 10**12)
    monkeypatch.setattr(budget, "MAX_CPU_S", 10**6)
    budget.BudgetItem.runtest(item)
    monkeypatch.setattr(budget, "MAX_CPU_S", 0.0)
    with pytest.raises(pytest.fail.Exception, match="01_x.ipynb: the kernel used .* s of processor time; at most 0 s"):
        budget.BudgetItem.runtest(item)
