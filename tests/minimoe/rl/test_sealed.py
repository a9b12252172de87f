"""What the sealed process does before the program runs: orders, limits, imports."""

import builtins
import marshal
import os
import sys

import pytest

from minimoe.rl.sandbox import Limits, run_program
from minimoe.rl.sealed import SILENT, import_modules, names_in, read_orders


def test_orders_are_read_and_what_follows_is_left(monkeypatch):
    given, written = os.pipe()
    data = marshal.dumps({"source": "x" * 5000, "filter": b"\0\1"})
    os.write(written, len(data).to_bytes(8, "big") + data + b"input")
    read = os.read
    monkeypatch.setattr(os, "read", lambda fd, count: read(given if fd == 0 else fd, min(count, 1000)))
    assert read_orders() == {"source": "x" * 5000, "filter": b"\0\1"}
    assert read(given, 100) == b"input"
    os.close(given), os.close(written)


def test_names_are_found_at_every_depth():
    source = """
import math
def f():
    from collections.abc import Mapping
    class A:
        g = lambda self: __import__("json")
"""
    assert {"math", "collections.abc", "json"} <= names_in(compile(source, "x", "exec"))
    assert "heapq" not in names_in(compile(source, "x", "exec"))


def test_only_modules_of_the_standard_library_are_imported_and_no_silly_ones(monkeypatch):
    asked = []

    def record(name):
        asked.append(name)
        if name == "heapq":
            raise ImportError

    monkeypatch.setattr(builtins, "__import__", record)
    import_modules({"torch", "heapq", "collections.abc", "datetime", "nothing", "unittest.__main__", *SILENT})
    monkeypatch.undo()
    assert set(asked) - {"_pylong"} == {"heapq", "collections.abc", "datetime", "_strptime"}



@pytest.mark.skipif(sys.platform != "linux", reason="un-skip when the limits are read on another system too")
def test_the_kernels_limits_are_set():
    source = """
import resource
for name in ("AS", "CPU", "FSIZE", "CORE", "NPROC"):
    print(name, *resource.getrlimit(getattr(resource, "RLIMIT_" + name)))
"""
    limits = Limits(cpu_s=2.5, memory_bytes=10**8, output_bytes=1000, unsealed=True)
    lines = run_program(source, limits=limits).stdout.splitlines()
    assert lines == ["AS 100000000 100000000", "CPU 3 3", "FSIZE 1001 1001", "CORE 0 0", "NPROC 0 0"]
