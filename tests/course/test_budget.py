"""The budget of a chapter: measured in the kernel's process, and able to fail."""

import os

import psutil
import torch

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
