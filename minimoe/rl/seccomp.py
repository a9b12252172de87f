"""The seal: a filter in the kernel that decides which system calls a process may still make.

A program can compute whatever it likes inside its own memory. To touch anything else (a file, a socket, a process, a
signal) it must ask the kernel, by a system call. Linux lets a process install a filter over its own calls, which it
can never remove, without any privilege: seccomp. So a process reads all the modules it will need, seals itself, and
then runs the answer. Nothing in Python has to be forbidden: whatever the answer finds by `gc`, `ctypes` or broken
bytecode, it finds in a process that cannot ask for anything.

The filter is a program for the kernel's little virtual machine, classic BPF: load a word, compare, return a verdict.
A call that is listed here is allowed, or refused with an error code that Python turns into an exception; memory may
not be made executable; any other call kills the process on the spot. Numbers differ between processors, and a call
made in the convention of another one (32-bit, x32) kills too.

How the production version differs: judges of programs run each one in a container or a small virtual machine with
limits of the kernel's control groups, and have such a filter inside: gVisor, nsjail and Firecracker all do.
"""

import errno
import struct

__all__ = ["ALLOWED", "ARCHITECTURES", "REFUSED", "seal_filter"]

# Architecture: its mark in every call (AUDIT_ARCH_*), and its column in the tables below.
ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# Computing, reading what is open, printing, knowing the time, ending: (number on x86_64, number on aarch64).
ALLOWED = {
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66),
    "close": (3, 57), "fstat": (5, 80), "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24),
    "munmap": (11, 215), "brk": (12, 214), "mremap": (25, 216), "madvise": (28, 233), "futex": (202, 98),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "sched_yield": (24, 124), "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "restart_syscall": (219, 128),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, None),
    "times": (100, 153), "getrusage": (98, 165), "getrandom": (318, 278),
    "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178),
    "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177),
    "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip

# Allowed unless their third argument asks for memory that can be executed.
MEMORY = {"mmap": (9, 222), "mprotect": (10, 226)}

# Asked by honest programs too (an import inside `try`, a traceback that looks for its source): an error, no death.
REFUSED = {
    "open": (2, None), "openat": (257, 56), "openat2": (437, 437),
    "stat": (4, None), "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291),
    "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439),
    "readlink": (89, None), "readlinkat": (267, 78), "getcwd": (79, 17), "getdents64": (217, 61),
    "uname": (63, 160), "sysinfo": (99, 179), "sched_getaffinity": (204, 123), "fcntl": (72, 25),
    "lseek": (8, 62), "ioctl": (16, 29),
}  # fmt: skip
# What a pipe answers that is no terminal: a program's streams look like pipes, though they are files.
ERRORS = {"lseek": errno.ESPIPE, "ioctl": errno.ENOTTY}

LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
KILL, FAIL, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
NUMBER_AT, ARCHITECTURE_AT, THIRD_ARGUMENT_AT = 0, 4, 32
EXECUTABLE = 4


def seal_filter(machine: str) -> bytes:
    """The filter for `machine` ("x86_64" or "aarch64"), as an array of the kernel's `struct sock_filter`.

    One instruction is (code, steps to skip if true, steps to skip if false, operand). Takes what `platform.machine()`
    says. Raises ValueError for a machine that has no table here.
    Source: Linux, Documentation/userspace-api/seccomp_filter.rst.
    """
    if machine not in ARCHITECTURES:
        raise ValueError(f"machine={machine!r} has no table of system calls; {', '.join(ARCHITECTURES)} have")
    mark, column = ARCHITECTURES[machine]
    program = [(LOAD, 0, 0, ARCHITECTURE_AT), (EQUAL, 1, 0, mark), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER_AT)]
    verdicts = [(ALLOWED[name][column], ALLOW) for name in ALLOWED]
    verdicts += [(REFUSED[name][column], FAIL | ERRORS.get(name, errno.EACCES)) for name in REFUSED]
    for number, verdict in verdicts:
        if number is not None:
            program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, verdict)]
    for numbers in MEMORY.values():
        program += [(EQUAL, 0, 4, numbers[column]), (LOAD, 0, 0, THIRD_ARGUMENT_AT)]
        program += [(ANY_BIT, 0, 1, EXECUTABLE), (RETURN, 0, 0, KILL), (RETURN, 0, 0, ALLOW)]
    program.append((RETURN, 0, 0, KILL))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
