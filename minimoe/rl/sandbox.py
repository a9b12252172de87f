"""Running a program that is an answer: in a process of its own, inside limits that the kernel holds.

A reward for programs runs what a model wrote, thousands of times, unread. Most of it is wrong, some never ends, and a
policy that is rewarded for passing tests tries everything that passes them. So the program is treated as an enemy. It
runs in a process that has sealed itself (`sealed`, `seccomp`): no file, no socket, no second process, no signal, no
environment, no way back. Processor time, memory and output are limited by the kernel, the clock by the parent, which
kills. What the program prints goes into an unlinked file and not through a pipe, so that nothing can fill up or be
held open, and the parent only waits for one process to end.

A verdict cannot be forged, because it does not travel. The expected output never enters the process: the parent
compares. The program may lie about how it failed, by exit code or message; it cannot lie about having answered.

The seal needs Linux on x86_64 or aarch64, and no privilege. Elsewhere `run_program` refuses to run, and says what is
not held there; `Limits(unsealed=True)` runs all the same.

How the production version differs: a cluster of judges, each program in a virtual machine that is thrown away. A filter
of system calls leaves one kernel between the program and the machine; a hole in it, or in the processor, is a way out.
"""

import errno
import functools
import marshal
import math
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from minimoe.rl.seccomp import ARCHITECTURES, seal_filter
from minimoe.training.reasoning import split_response

__all__ = ["Limits", "Outcome", "SandboxError", "not_held", "passes_tests", "program_in", "run_program", "solved"]

SCRIPT = Path(__file__).with_name("sealed.py")
INTERPRETER = ("-s", "-S", "-P", "-B", "-X", "utf8")  # no site packages, no folder of the caller, no written bytecode
STDERR_TAIL_BYTES = 2000
NO_WAIT = getattr(os, "WNOHANG", 1)
FENCED = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL)


class SandboxError(RuntimeError):
    """This system cannot hold what was asked of it."""


@dataclass(frozen=True)
class Limits:
    """What a program may use: seconds of processor and of the clock, bytes of address space and of each output stream.

    Processor time is rounded up to whole seconds, the kernel's unit. `unsealed` also runs where no seal exists.
    Raises ValueError for a limit that is not positive.
    """

    cpu_s: float = 2.0
    wall_s: float = 10.0
    memory_bytes: int = 256 * 2**20
    output_bytes: int = 2**16
    unsealed: bool = False

    def __post_init__(self):
        for name in ("cpu_s", "wall_s", "memory_bytes", "output_bytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be greater than 0")


@dataclass(frozen=True)
class Outcome:
    """How a program ended. `status` is one of

    ok         it ended with exit code 0
    error      an exception that nobody caught, or another exit code
    timeout    the processor's or the clock's seconds were over
    memory     there was no memory left for it
    output     it printed more than it may
    forbidden  it asked the kernel for something that the seal refuses
    crash      it died of a signal, its own fault (a broken stack) or the machine's

    `reason` says in words what ended it, `seconds` are by the clock. Only "ok" means anything for a reward.
    """

    status: str
    stdout: str
    stderr: str
    reason: str
    seconds: float
    cpu_seconds: float


@functools.cache
def not_held() -> tuple[str, ...]:
    """What `run_program` cannot hold on this system; empty where the seal works, which is tried out once."""
    if sys.platform == "linux" and platform.machine() in ARCHITECTURES:
        tried = _run("import os\nos.kill(os.getpid(), 0)", "", Limits())
        if tried.reason == _by_signal("SIGSYS"):
            return ()
    missing = ["files", "network", "other processes and signals"]
    if sys.platform == "win32":
        missing += ["processor time", "memory", "size of the output", "processes that it leaves behind"]
    elif sys.platform != "linux":
        missing += ["memory"]
    return tuple(missing)


def run_program(source: str, stdin: str = "", limits: Limits = Limits()) -> Outcome:  # noqa: B008 (it is frozen)
    """Run Python source on an input, and say how that ended.

    The program finds the standard library (what it names in its text, imported beforehand), its input and its two
    output streams, and nothing else. Strings hash the same in every run. Whatever it does, the answer comes within
    `limits.wall_s` and a moment; no process and no file is left. Outputs are decoded as UTF-8, with marks for what is
    none, and of stderr the end is kept.

    Raises SandboxError where the seal does not work (and `limits.unsealed` is not set), and never for anything that
    the program does. Chapter 10.
    """
    if not limits.unsealed and not_held():
        raise SandboxError(
            f"no seal on {platform.system()} {platform.machine()}: a program could reach {', '.join(not_held())}. "
            "Limits(unsealed=True) runs it all the same, behind a hook of the interpreter that a clever one gets round"
        )
    return _run(source, stdin, limits)


def _run(source: str, stdin: str, limits: Limits) -> Outcome:
    orders = {
        "source": source,
        "parent": os.getpid(),
        "cpu_s": math.ceil(limits.cpu_s),
        "memory_bytes": int(limits.memory_bytes),
        "output_bytes": int(limits.output_bytes),
        "filter": b"" if limits.unsealed else seal_filter(platform.machine()),
    }
    data = marshal.dumps(orders)
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(len(data).to_bytes(8, "big") + data + stdin.encode("utf-8", "surrogatepass"))
        given.seek(0)
        started = time.perf_counter()
        code, cpu_s = _wait(_start(given, out, err), limits)
        seconds = time.perf_counter() - started
        sizes = [file.seek(0, os.SEEK_END) for file in (out, err)]
        stdout, stderr = _read(out, 0, limits.output_bytes), _read(err, sizes[1] - STDERR_TAIL_BYTES, STDERR_TAIL_BYTES)
    status, reason = _judge(code, cpu_s, max(sizes), stderr, limits)
    return Outcome(status, stdout, stderr, reason, seconds, cpu_s)


def _start(given, out, err) -> subprocess.Popen:
    """The process, in a session of its own, with three open files and an environment that says nothing."""
    environment = {"PYTHONHASHSEED": "0"}
    if "SYSTEMROOT" in os.environ:  # Windows starts no Python without it
        environment["SYSTEMROOT"] = os.environ["SYSTEMROOT"]
    return subprocess.Popen(
        [sys.executable, *INTERPRETER, str(SCRIPT)],
        stdin=given, stdout=out, stderr=err, cwd=tempfile.gettempdir(), env=environment, start_new_session=True,
    )  # fmt: skip


def _wait(process: subprocess.Popen, limits: Limits) -> tuple[int | None, float]:
    """Exit code (negative: the signal; None: killed here, time was over) and processor seconds of the whole life."""
    started = time.perf_counter()
    try:
        while (waited := time.perf_counter() - started) < limits.wall_s:
            if (cpu_s := _ended(process, NO_WAIT)) is not None:
                return process.returncode, cpu_s
            time.sleep(min(max(waited / 16, 0.001), 0.02))
    finally:
        # Also for an exception in here, Ctrl-C say. Without a seal the program may have left others in its group.
        ran = process.returncode is None
        if ran or limits.unsealed:
            _kill(process)
        if ran:
            cpu_s = _ended(process, 0)
    return None, cpu_s


def _ended(process: subprocess.Popen, options: int) -> float | None:
    """The processor seconds of a process that has ended, and its exit code noted; None if it is still running."""
    if not hasattr(os, "wait4"):  # Windows
        return None if (process.wait() if not options else process.poll()) is None else 0.0
    pid, status, usage = os.wait4(process.pid, options)
    if not pid:
        return None
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def _kill(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
    except (ProcessLookupError, PermissionError):
        return


def _read(file, start: int, count: int) -> str:
    file.seek(max(start, 0))
    return file.read(count).decode("utf-8", "replace")


def _by_signal(name: str) -> str:
    return {"SIGSYS": "a system call that is not allowed (SIGSYS)"}.get(name, f"signal {name}")


def _judge(code: int | None, cpu_s: float, size: int, stderr: str, limits: Limits) -> tuple[str, str]:
    """Status and reason, from what the kernel says first, and from the program's own last words only for a failure."""
    name = signal.Signals(-code).name if code is not None and -code in set(signal.Signals) else ""
    if size > limits.output_bytes or name == "SIGXFSZ":
        return "output", f"more than {limits.output_bytes} bytes printed"
    if code is None:
        return "timeout", f"more than {limits.wall_s:g} s by the clock"
    if name == "SIGSYS":
        return "forbidden", _by_signal(name)
    if name in ("SIGKILL", "SIGXCPU") and cpu_s > 0.5 * math.ceil(limits.cpu_s):
        return "timeout", f"more than {math.ceil(limits.cpu_s)} s of processor time"
    if code < 0:
        return "crash", _by_signal(name or str(-code))
    last = stderr.rstrip().rpartition("\n")[2]
    if code and last.startswith(("MemoryError", f"OSError: [Errno {errno.ENOMEM}]")):
        return "memory", f"more than {limits.memory_bytes} bytes of memory"
    if code and last.startswith("PermissionError"):
        return "forbidden", f"a request that is refused ({last})"
    return ("error", f"exit code {code}" + (f" ({last})" if last else "")) if code else ("ok", "exit code 0")


def passes_tests(source: str, cases: Sequence[tuple[str, str]], limits: Limits = Limits()) -> float:  # noqa: B008
    """The share of cases (input, expected output) in which the program ends with exit code 0 and prints what it should.

    Each case is a run of its own. Blanks at the ends of lines and empty lines at the end do not count.
    Raises ValueError without a case, and what `run_program` raises. Chapter 10.
    """
    if not cases:
        raise ValueError("cases=[]: without a case every program would pass")
    runs = ((run_program(source, given, limits), expected) for given, expected in cases)
    passed = [outcome.status == "ok" and _lines(outcome.stdout) == _lines(expected) for outcome, expected in runs]
    return sum(passed) / len(passed)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def program_in(response: str) -> str:
    """The program in a response: what follows the thought, and of that the last fenced block if there is one."""
    said = split_response(response)[1]
    fenced = FENCED.findall(said)
    return fenced[-1] if fenced else said


def solved(limits: Limits = Limits()) -> Callable:  # noqa: B008
    """The rule for answers that are programs: the share of the task's cases that the answer's program passes.

    The question's task says what is expected: `task.cases(problem)` gives (input, expected output) pairs. An answer
    that did not end gets 0. For `Rewards({"tests": (1.0, solved())})`. Chapter 10.
    """

    def rule(question, answer) -> float:
        if not answer.ended:
            return 0.0
        return passes_tests(program_in(answer.text), question.task.cases(question.problem), limits)

    return rule
