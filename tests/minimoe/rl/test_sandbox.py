"""Programs as answers: honest ones run, hostile ones do no harm and are not paid. Every program here really runs."""

import importlib.util
import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from hostile import HOSTILE
from witness import Witness

from minimoe.rl import sandbox
from minimoe.rl.sandbox import Limits, SandboxError, not_held, passes_tests, program_in, run_program, solved

pytestmark = pytest.mark.skipif(not_held() != (), reason="un-skip when run on Linux, x86_64 or aarch64, with seccomp")
BARE = [hostile for hostile in HOSTILE if hostile.bare]
# What gets round the hook that stands in for the seal elsewhere: it sees no event for these.
PAST_THE_HOOK = {"pidfd", "named pipe", "shared memory"}


def by_name(hostile):
    return hostile.name.replace(" ", "-")


@pytest.fixture
def witness():
    with Witness() as scene:
        yield scene


# --- hostile programs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hostile", HOSTILE, ids=by_name)
def test_a_hostile_program_is_stopped_and_leaves_no_trace(hostile, witness):
    limits = Limits(cpu_s=1, wall_s=hostile.wall_s)
    outcome = run_program(witness.aim(hostile.source), "one\ntwo\n", limits)
    assert outcome.status in hostile.expected.split(" or "), outcome
    assert witness.harm(outcome.stdout + outcome.stderr) == []
    assert len(outcome.stdout) <= limits.output_bytes and outcome.cpu_seconds < 3


@pytest.mark.parametrize("hostile", BARE, ids=by_name)
def test_without_the_sandbox_the_same_program_does_harm(hostile, witness):
    assert witness.run_bare(hostile.source) != []


@pytest.mark.parametrize("hostile", BARE, ids=by_name)
def test_where_there_is_no_seal_a_hook_stops_what_is_written_plainly(hostile, witness):
    outcome = run_program(witness.aim(hostile.source), limits=Limits(cpu_s=1, unsealed=True))
    harm = witness.harm(outcome.stdout + outcome.stderr)
    held = harm == [] and outcome.status in hostile.expected.split(" or ")
    assert held == (hostile.name not in PAST_THE_HOOK), (outcome, harm)


def test_there_are_enough_hostile_programs_of_every_kind():
    assert len(HOSTILE) >= 35 and len({hostile.name for hostile in HOSTILE}) == len(HOSTILE)
    kinds = {kind for hostile in HOSTILE for kind in hostile.expected.split(" or ")}
    assert kinds == {"ok", "error", "timeout", "memory", "output", "forbidden", "crash"}


@pytest.mark.parametrize("hostile", [h for h in HOSTILE if h.expected == "ok"], ids=by_name)
def test_a_program_that_only_looks_like_success_is_paid_nothing(hostile, witness):
    assert passes_tests(witness.aim(hostile.source), [("1", "expected 42")]) == 0.0


def test_one_run_leaves_nothing_for_the_next_to_find():
    keep = "import builtins, sys\nprint(getattr(builtins, 'kept', 0))\nbuiltins.kept = 42"
    assert [run_program(keep).stdout for _ in range(2)] == ["0\n", "0\n"]


def test_an_interrupt_of_the_parent_ends_the_program(witness, monkeypatch):
    def interrupt(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_program("while True: pass")
    monkeypatch.undo()
    assert witness.harm() == []


def test_the_death_of_the_parent_ends_the_program():
    parent = os.fork()
    if not parent:
        run_program("import time\ntime.sleep(10**6)", limits=Limits(wall_s=10**6))
        os._exit(0)
    children = Path(f"/proc/{parent}/task/{parent}/children")
    assert wait_until(lambda: children.read_text().split())
    status = Path(f"/proc/{children.read_text().split()[0]}/status")
    assert wait_until(lambda: "Seccomp:\t2" in status.read_text())
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert wait_until(lambda: not status.exists() or "State:\tZ" in status.read_text())


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_the_committed_table_is_of_these_programs_and_none_did_harm():
    folder = Path(__file__).parents[3] / "data" / "sandbox"
    spec = importlib.util.spec_from_file_location("measure", folder / "measure.py")
    spec.loader.exec_module(measure := importlib.util.module_from_spec(spec))
    for file in ("table.json", "ordinary_user.json"):
        programs = json.loads((folder / file).read_text())["programs"]
        assert [(p["name"], p["attempt"]) for p in programs] == [(h.name, h.attempt) for h in HOSTILE]
        assert all(program["as_expected"] and program["harm"] == [] for program in programs)
    assert measure.tables() in (folder / "README.md").read_text()


# --- honest programs --------------------------------------------------------------------------------------------------

HONEST = {
    "sorting": ("print(*sorted(map(int, input().split())))", "3 1 2\n", "1 2 3\n"),
    "all of the input": ("import sys\nfor line in sys.stdin: print(line.strip()[::-1])", "ab\ncd\n", "ba\ndc\n"),
    "input as a file": ("print(len(open(0).read()))", "abc", "3\n"),
    "text": ("print(input().upper())", "é 中\n", "É 中\n"),
    "recursion": ("def f(n): return n < 2 or n * f(n - 1)\nprint(f(20))", "", "2432902008176640000\n"),
    "deep recursion": (
        "import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return n and 1 + f(n - 1)\nprint(f(20_000))", "", "20000\n"
    ),
    "imports": (
        "import math, re, itertools, collections, json, heapq, bisect, functools, string, random, decimal, datetime\n"
        "from fractions import Fraction as F\nfrom collections.abc import Mapping\n"
        "print(math.gcd(12, 18), re.sub('a', 'b', 'aa'), list(itertools.permutations('ab')), F(1, 3) + F(1, 6))\n"
        "print(collections.Counter('aab'), json.dumps({'a': [1]}), datetime.datetime.strptime('2025', '%Y').year)",
        "",
        "6 bb [('a', 'b'), ('b', 'a')] 1/2\nCounter({'a': 2, 'b': 1}) {\"a\": [1]} 2025\n",
    ),
    "an import inside try": ("try: import torch\nexcept ImportError: import math as m\nprint(m.pi // 1)", "", "3.0\n"),
    "a main guard": ("def main(): print(1)\nif __name__ == '__main__': main()", "", "1\n"),
    "a data class": (
        "from dataclasses import dataclass\n@dataclass(order=True)\nclass A:\n    x: int\nprint(max(A(1), A(2)))",
        "",
        "A(x=2)\n",
    ),
    "exit": ("print(1)\nexit()\nprint(2)", "", "1\n"),
    "time": ("import time\nt = time.time()\ntime.sleep(0.01)\nprint(time.time() > t)", "", "True\n"),
    "long integers": ("print(len(str(7**4000)), divmod(7**9000, 7**4000)[1])", "", "3381 0\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_program_runs(name):
    source, given, expected = HONEST[name]
    outcome = run_program(source, given)
    assert (outcome.status, outcome.stdout, outcome.stderr) == ("ok", expected, "")
    assert passes_tests(source, [(given, expected)]) == 1.0


@pytest.mark.parametrize(
    "source, status, last",
    [
        ("1 / 0", "error", "ZeroDivisionError: division by zero"),
        ("x =", "error", "SyntaxError: invalid syntax"),
        ("import torch", "error", "ModuleNotFoundError: No module named 'torch'"),
        ("print('\0')", "error", "source code string cannot contain null bytes"),
        ("print('\ud800')", "error", "surrogates not allowed"),
        ("class E(BaseException): pass\nraise E('gone')", "error", "E: gone"),
        ("import sys\nsys.exit(3)", "error", ""),
    ],
)
def test_a_failure_says_what_it_was_and_shows_only_the_program(source, status, last):
    outcome = run_program(source)
    assert outcome.status == status and outcome.stdout == ""
    assert outcome.stderr.strip().endswith(last) and "sealed.py" not in outcome.stderr


def test_output_up_to_the_limit_is_fine_and_one_byte_more_is_not():
    limits = Limits(output_bytes=1000)
    assert run_program("print('a' * 999)", limits=limits).status == "ok"
    over = run_program("print('a' * 1000)", limits=limits)
    assert (over.status, len(over.stdout)) == ("output", 1000)


def test_output_that_is_no_text_is_shown_with_marks():
    assert run_program("import os\nos.write(1, b'a\\xffb')").stdout == "a\N{REPLACEMENT CHARACTER}b"


def test_strings_hash_the_same_in_every_run():
    source = "print(*{str(i) for i in range(20)})"
    assert len({run_program(source).stdout for _ in range(3)}) == 1


def test_programs_run_side_by_side():
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda i: run_program("print(int(input()) ** 2)", str(i)).stdout, range(8)))
    assert outcomes == [f"{i * i}\n" for i in range(8)]


# --- rewards ----------------------------------------------------------------------------------------------------------


def test_the_reward_is_the_share_of_cases():
    cases = [("1", "1"), ("2", "4"), ("3", "9"), ("4", "17")]
    assert passes_tests("print(int(input()) ** 2)", cases) == 0.75


def test_blanks_at_the_end_do_not_count_and_others_do():
    assert passes_tests("print('a ')\nprint('b')\nprint()", [("", "a\nb")]) == 1.0
    assert passes_tests("print(' a')", [("", "a")]) == 0.0
    assert passes_tests("print('a b')", [("", "a\nb")]) == 0.0


def test_the_right_output_before_a_failure_is_worth_nothing():
    assert passes_tests("print(1)\n1 / 0", [("", "1")]) == 0.0


def test_no_cases_are_an_error():
    with pytest.raises(ValueError, match="without a case every program would pass"):
        passes_tests("print(1)", [])


def test_the_program_of_a_response_follows_its_thought():
    assert program_in("<think>```python\nprint(0)\n```</think>print(1)") == "print(1)"
    assert program_in("<think>x</think>Here:\n```python\nprint(1)\n```\nor\n```\nprint(2)\n```\n") == "print(2)\n"


def test_as_a_rule_it_asks_the_task_for_cases_and_pays_only_answers_that_ended():
    task = SimpleNamespace(cases=lambda problem: [("", problem), ("", "7")])
    question = SimpleNamespace(task=task, problem="3")
    rule = solved(Limits(cpu_s=1))
    answer = SimpleNamespace(text="<think>?</think>print(3)", ended=True)
    assert rule(question, answer) == 0.5
    answer.ended = False
    assert rule(question, answer) == 0.0


# --- other systems, and errors ----------------------------------------------------------------------------------------


def test_without_a_seal_nothing_runs_and_the_error_says_what_is_not_held(monkeypatch):
    monkeypatch.setattr(sandbox, "not_held", lambda: ("files", "network"))
    with pytest.raises(SandboxError, match=r"no seal on .*could reach files, network.*Limits\(unsealed=True\)"):
        run_program("print(1)")
    assert run_program("print(1)", limits=Limits(unsealed=True)).stdout == "1\n"


@pytest.mark.parametrize(
    "system, missing", [("linux", "files"), ("darwin", "memory"), ("win32", "processes that it leaves behind")]
)
def test_a_system_without_the_seal_is_told_what_it_lacks(monkeypatch, system, missing):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert missing in not_held.__wrapped__()


def test_a_kernel_that_takes_no_filter_is_noticed_and_the_program_is_not_run(monkeypatch):
    monkeypatch.setattr(sandbox, "seal_filter", lambda machine: b"\xff" * 8)
    assert "files" in not_held.__wrapped__()
    outcome = sandbox._run("print(1)", "", Limits())
    assert (outcome.status, outcome.stdout) == ("error", "") and "takes no filter" in outcome.stderr


@pytest.mark.parametrize("name", ["cpu_s", "wall_s", "memory_bytes", "output_bytes"])
def test_a_limit_that_is_not_positive_is_an_error(name):
    with pytest.raises(ValueError, match=f"{name}=0 must be greater than 0"):
        Limits(**{name: 0})
