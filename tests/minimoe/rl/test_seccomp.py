"""The filter, judged by a small version of the kernel's own machine: every call, both processors."""

import errno
import platform
import re
import struct
from pathlib import Path

import pytest

from minimoe.rl.seccomp import ALLOWED, ARCHITECTURES, ERRORS, MEMORY, REFUSED, seal_filter

KILL, ALLOW, FAIL = 0x80000000, 0x7FFF0000, 0x00050000
HEADERS = {
    "x86_64": Path(f"/usr/include/{platform.machine()}-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def verdict(program, number, mark, third=0):
    """What the kernel would return for a call: classic BPF, the four instructions that the filter uses."""
    data = struct.pack("=IIQ6Q", number, mark, 0, 0, 0, third, 0, 0, 0)
    instructions = list(struct.iter_unpack("=HBBI", program))
    at, word = 0, None
    while True:
        code, if_true, if_false, operand = instructions[at]
        at += 1
        if code == 0x20:
            word = struct.unpack_from("=I", data, operand)[0]
        elif code == 0x15:
            at += if_true if word == operand else if_false
        elif code == 0x45:
            at += if_true if word & operand else if_false
        elif code == 0x06:
            return operand
        else:
            raise AssertionError(f"instruction {code:#x} is none of the filter's")


@pytest.fixture(params=ARCHITECTURES)
def machine(request):
    return request.param


def expected(column):
    known = {numbers[column]: ALLOW for numbers in [*ALLOWED.values(), *MEMORY.values()]}
    known |= {numbers[column]: FAIL | ERRORS.get(name, errno.EACCES) for name, numbers in REFUSED.items()}
    known.pop(None, None)
    return known


def test_every_call_gets_the_verdict_of_its_table_and_all_others_kill(machine):
    mark, column = ARCHITECTURES[machine]
    program, known = seal_filter(machine), expected(column)
    for number in [*range(1024), 0x40000000, 0x40000000 + 57, 2**32 - 1]:
        assert verdict(program, number, mark) == known.get(number, KILL), number


def test_calls_in_the_convention_of_another_processor_kill(machine):
    program = seal_filter(machine)
    for mark in (0x40000003, 0, *(mark for name, (mark, _) in ARCHITECTURES.items() if name != machine)):
        assert {verdict(program, number, mark) for number in range(512)} == {KILL}


def test_memory_may_be_anything_but_executable(machine):
    mark, column = ARCHITECTURES[machine]
    program = seal_filter(machine)
    for numbers in MEMORY.values():
        for protection in range(8):
            wanted = KILL if protection & 4 else ALLOW
            assert verdict(program, numbers[column], mark, protection) == wanted
    write = ALLOWED["write"][column]
    assert verdict(program, write, mark, 4) == ALLOW  # the third argument of other calls is their own affair


def test_no_number_is_in_two_tables(machine):
    column = ARCHITECTURES[machine][1]
    numbers = [numbers[column] for table in (ALLOWED, MEMORY, REFUSED) for numbers in table.values()]
    numbers = [number for number in numbers if number is not None]
    assert len(set(numbers)) == len(numbers) > 50


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_are_those_of_the_kernels_headers(machine):
    header = HEADERS[machine]
    if not header.exists():
        pytest.skip(f"un-skip when linux-libc-dev is installed: there is no {header}")
    column = ARCHITECTURES[machine][1]
    found = dict(re.findall(r"#define __NR3?\d*_?_?(\w+) (\d+)", header.read_text()))
    for name, numbers in {**ALLOWED, **MEMORY, **REFUSED}.items():
        if numbers[column] is not None:
            # The generic table calls these four by both names, one for 32-bit and one for 64-bit systems.
            names = [name, "fstatat" if name == "newfstatat" else name]
            assert str(numbers[column]) in [found.get(name) for name in [*names, *(f"3264_{n}" for n in names)]], name


def test_dangerous_calls_are_in_no_table():
    tables = {**ALLOWED, **MEMORY, **REFUSED}
    assert not {"clone", "clone3", "fork", "vfork", "execve", "execveat"} & set(tables)
    assert not {"kill", "tgkill", "ptrace", "socket", "connect", "prctl", "prlimit64", "io_uring_setup"} & set(tables)
    assert not {"open", "openat", "fcntl", "ioctl", "getdents64"} & set(ALLOWED)


def test_a_machine_without_a_table_is_named():
    with pytest.raises(ValueError, match="machine='riscv64' has no table .* x86_64, aarch64 have"):
        seal_filter("riscv64")
