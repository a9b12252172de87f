"""The bench without a GPU: the whole path with a clock that pretends, the peers' values, and what is never written."""

import functools
import importlib.machinery
import json
import subprocess
import sys
import types
from dataclasses import replace

import pytest
import torch

from minimoe_kernels import bench, swiglu
from minimoe_kernels.bench import __main__ as command
from minimoe_kernels.bench import peers, products
from minimoe_kernels.bench.clock import contest, spread
from minimoe_kernels.bench.goals import GOALS, report
from minimoe_kernels.bench.sides import Case, Side, flat, forward
from minimoe_kernels.checks.agreement import Disagreement
from minimoe_kernels.checks.mutants import mutate
from minimoe_kernels.timing_records import TIMINGS, derive, read_records, validated

COMPILE = ("torch.compile",)
SMALL = {case.label: replace(case, sizes=case.small) for case in bench.CASES}
SWIGLU = next(case for case in SMALL.values() if case.kernel == "swiglu")
# what PyTorch's CPU build refuses, and nothing else may be missing here
GPU_ONLY = {"F.scaled_mm, 1x128 and 128x128": "Invalid scaling", "sdpa, cuDNN": "No viable backend"}


@pytest.mark.parametrize("case", SMALL.values(), ids=list(SMALL))
def test_every_peer_computes_what_the_kernel_computes(case, monkeypatch):
    """Also what torch.compile is given: traced in full, then run without its code generator."""
    traced = functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", traced)
    torch.manual_seed(0)
    ours, prepared = case.build("cpu", **case.sizes)
    sides, out, distances = bench._peers(prepared, flat(ours.seen(ours.call())), ())
    assert out.keys() <= GPU_ONLY.keys() and all(GPU_ONLY[name] in why for name, why in out.items())
    assert sides.keys() | out.keys() == prepared.keys() and len(sides) >= 2
    assert all(0 <= distance < 0.005 for distance in distances.values())
    again = [flat(side.seen(side.call())) for side in sides.values()]  # a backward pass can be timed more than once
    assert all(bench.apart(results, again[0]) < 0.01 for results in again)


@pytest.mark.parametrize("kernel", ["rms_norm", "rms_norm_backward", "token_loss"])
def test_liger_is_a_peer_where_it_is_installed_and_only_there(kernel, monkeypatch):
    """A stand-in of its signatures (v0.5 to 0.6): what is tested is how it is called."""

    def liger_rms_norm(X, W, eps, offset=0.0, casting_mode="llama", in_place=True):
        assert (offset, casting_mode, in_place) == (0.0, "llama", False)
        return torch.nn.functional.rms_norm(X, W.shape, W, eps)

    case = next(case for case in SMALL.values() if case.kernel == kernel)
    assert "Liger" not in case.build("cpu", **case.sizes)[1]
    for name in ("liger_kernel", "liger_kernel.transformers", "liger_kernel.transformers.functional"):
        found = types.ModuleType(name)
        found.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, found)
    found.liger_rms_norm, found.liger_fused_linear_cross_entropy = liger_rms_norm, peers.cross_entropy
    ours, prepared = case.build("cpu", **case.sizes)
    side = prepared["Liger"]()
    assert bench.apart(flat(side.call()), flat(ours.call())) < 0.01
    monkeypatch.setattr(peers.metadata, "version", {"liger-kernel": "0.6.1"}.get)
    assert peers.version_of("Liger") == "0.6.1" and peers.version_of("sdpa") == torch.__version__


def test_what_the_cpu_lacks_is_called_as_its_signature_wants():
    """On the device "meta", which has PyTorch's own checks of shapes and strides, and no numbers."""
    _, prepared = products.fp8("meta", M=256, F=384, D=512)
    out = prepared["F.scaled_mm, 1x128 and 128x128"]().call()
    assert (out.shape, out.dtype) == ((256, 384), torch.bfloat16)
    x, weight = (torch.empty(*s, dtype=torch.bfloat16, device="meta") for s in ((65_536, 7168), (32, 4096, 7168)))
    ends, d_out = torch.empty(32, dtype=torch.int32, device="meta"), x.new_empty(65_536, 4096)
    assert peers.grouped(x, weight, ends).shape == d_out.shape
    assert [t.shape for t in peers.grouped_gradients(d_out, x, weight, ends)] == [x.shape, weight.shape]


def test_a_record_says_all_that_was_measured_and_its_derived_fields_follow(record):
    assert derive(record) == record["derived"] and record["shape"] == SWIGLU.small
    assert record["time_us"]["rounds"] == [200.0] * 3 and record["time_us"]["n"] == 9
    assert [peer["name"] for peer in record["peers"]] == ["torch"]
    assert record["left_out"] == {"torch.compile": "not asked for"}
    assert record["config"] == {"swiglu_forward": {"BLOCK": 128, "ACC": "float32", "num_warps": 4}}
    assert record["correct"]["passed"] is True and 0 < record["correct"]["rel_rms"] < 0.005
    assert len(record["source_sha256"]) == 64 and record["peak_bytes"] == 1000
    assert json.loads(json.dumps(record)) == record and len(json.dumps(record)) < 4000


def test_what_a_pretending_clock_gives_is_never_written(pretend, tmp_path):
    """For two reasons, each enough: it names no driver and no versions, and its method is no GPU's."""
    before = sorted(TIMINGS.rglob("*"))
    made = bench.run(SWIGLU, pretend(), "cpu", leave_out=COMPILE)
    with pytest.raises(ValueError, match="env does not say driver, cuda, torch, triton, python"):
        bench.append(made)
    made["env"] |= {"driver": "1", "cuda": "1", "torch": "1", "triton": "1", "python": "1"}
    with pytest.raises(ValueError, match="method 'pretended'.*want a GPU's own clock"):
        bench.append(made, tmp_path)
    assert sorted(TIMINGS.rglob("*")) == before and not list(tmp_path.iterdir())


def test_records_are_appended_and_a_slow_one_warns(record, tmp_path):
    assert bench.append(record, tmp_path) == []
    slow = json.loads(json.dumps(record))
    slow["time_us"] |= {name: 2 * slow["time_us"][name] for name in ("median", "p20", "p80")}
    slow["derived"] = derive(slow)
    (said,) = bench.append(slow, tmp_path)
    assert "100% slower" in said and len(read_records(tmp_path)) == 2
    assert bench.append(slow, tmp_path) == []  # as slow as before, and said before
    assert [path.name for path in tmp_path.rglob("*.jsonl")] == ["swiglu.jsonl"]


def test_a_wrong_kernel_is_not_timed(pretend, monkeypatch):
    monkeypatch.setattr(swiglu, "swiglu", mutate("swiglu", "swiglu_forward", "zeros").swiglu)
    clock = pretend()
    with pytest.raises(Disagreement, match="swiglu 5x24"):
        bench.run(SWIGLU, clock, "cpu")
    assert clock.called == []


def test_a_kernel_that_is_wrong_at_the_timed_sizes_alone_is_not_timed(pretend):
    def build(device, M, F):
        ours, prepared = SWIGLU.build(device, M, F)
        return Side(lambda: ours.call() * 1.03), prepared

    clock = pretend()
    with pytest.raises(Disagreement, match="no peer agrees.*0.03 apart from ours"):
        bench.run(replace(SWIGLU, build=build), clock, "cpu", leave_out=COMPILE)
    assert clock.called == []


def test_a_peer_that_fails_or_computes_something_else_is_left_out_and_says_why(pretend):
    def build(device, M, F):
        ours, prepared = SWIGLU.build(device, M, F)
        broken = {"broken": lambda: 1 / 0, "other": forward(lambda: ours.call() + 1)}
        return ours, {"torch": prepared["torch"]} | broken

    record = bench.run(replace(SWIGLU, build=build), pretend(), "cpu")
    assert [peer["name"] for peer in record["peers"]] == ["torch"]
    assert record["left_out"]["broken"] == "ZeroDivisionError: division by zero"
    assert "apart from ours" in record["left_out"]["other"]


def test_a_gpu_without_a_datasheet_or_without_the_instructions_is_refused(pretend):
    with pytest.raises(ValueError, match="no datasheet of 'GeForce 256'"):
        bench.run(SWIGLU, pretend(env={"gpu": "GeForce 256"}), "cpu")
    fp8 = next(case for case in SMALL.values() if case.kernel == "fp8_gemm")
    with pytest.raises(RuntimeError, match="fp8_gemm needs compute capability 89; NVIDIA A100-SXM4-80GB has 80"):
        bench.run(fp8, pretend(env={"gpu": "NVIDIA A100-SXM4-80GB", "arch": 80}), "cpu")


def test_the_distance_of_results_by_hand():
    a, b = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])
    assert bench.apart([a], [b]) == pytest.approx(0.1) and bench.apart([a], [a]) == 0
    assert bench.apart([torch.tensor([1, 2, 3, 4])], [torch.tensor([1, 2, 3, 5])]) == 0.25
    nan = torch.tensor([3.0, float("nan")])
    assert bench.apart([a], [nan]) == bench.apart([nan], [nan]) == bench.apart([a], [a[:1]]) == float("inf")


def test_sides_take_turns_in_an_order_that_rotates(pretend):
    called = []
    sides = {name: Side(functools.partial(called.append, name)) for name in "abc"}
    found = contest(sides, pretend(), 3)
    assert "".join(called) == "abcbcacab" and set(found) == set("abc")


def test_the_spread_is_of_all_launches_and_each_round_keeps_its_median(pretend):
    found = spread([[10.0, 20.0, 30.0], [40.0, 50.0], [60.0]], pretend())
    assert (found["min"], found["p20"], found["median"], found["p80"], found["n"]) == (10, 20, 35, 50, 6)
    assert found["rounds"] == [20.0, 45.0, 60.0] and (found["method"], found["l2"]) == ("pretended", "cold")


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="un-skip where PyTorch sees no GPU")
def test_without_a_gpu_it_says_so_writes_nothing_and_fails(capsys, tmp_path):
    assert command.main(["--out", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "no GPU" in said.err and "nothing is written" in said.err and not said.out and not list(tmp_path.iterdir())


def test_the_list_has_every_case_with_its_floor_and_calls_it_no_time(capsys):
    assert command.main(["--list"]) == 0
    said = capsys.readouterr().out
    assert all(case.label in said for case in bench.CASES) and "they are no times" in said
    assert "     608.4        18.3        181.6  bandwidth   mla_decode B=128 S=4096 H=16" in said
    assert command.main(["--list", "--only", "H=64"]) == 0
    assert capsys.readouterr().out.count("\n") == 3


@pytest.mark.parametrize("wrong", [["--only", "softmax"], ["--rounds", "2"]])
def test_a_word_that_names_no_case_and_two_rounds_are_refused(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(wrong)
    assert stop.value.code == 2 and wrong[1] in capsys.readouterr().err


def test_one_that_fails_is_reported_and_the_others_go_on(believable, monkeypatch, tmp_path, capsys):
    wrong = mutate("swiglu", "swiglu_forward", "zeros").swiglu
    monkeypatch.setattr(swiglu, "swiglu", wrong)
    cases = [case for case in SMALL.values() if case.kernel in ("swiglu", "rope")]
    options = command.argparse.Namespace(out=tmp_path, rounds=3, no_compile=True)
    assert command.measure(cases, options, believable()) == 1
    said = capsys.readouterr().out
    assert "swiglu M=5 F=128: NOT TIMED. Disagreement: swiglu 5x24" in said and "1 of 2 not timed" in said
    assert "rope M=5 H=3 R=16: 200.0 us (180.0 to 240.0)" in said and "left out torch.compile: not asked for" in said
    assert [found.kernel for found in read_records(tmp_path)] == ["rope"]
    monkeypatch.undo()
    assert command.measure(cases, options, believable(400.0)) == 0
    assert "WARNING rope" in (said := capsys.readouterr().out) and "100% slower" in said


def test_listing_imports_no_triton():
    code = "import sys; from minimoe_kernels.bench import __main__; __main__.main(['--list'])"
    code += "; print('triton' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


# --- the goals --------------------------------------------------------------------------------------------------------


def of(record, kernel, us, peer="torch", peer_us=None, **more):
    """A record of another kernel at the sizes of its first case, made from one that is valid."""
    sizes = more.pop("sizes", None) or next(case for case in bench.CASES if case.kernel == kernel).sizes
    work = Case(kernel, "", None, sizes, {}).work
    line = json.loads(json.dumps(record)) | more
    line |= {"kernel": kernel, "shape": sizes, "flops": work.flops, "bytes": {"ideal": work.bytes}, "dtype": work.dtype}
    line["roof"]["tflops"] = {"bf16": {"datasheet": 989.0, "measured": 800.0},
                              "fp8": {"datasheet": 1979.0, "measured": 1500.0}}[work.dtype]  # fmt: skip
    line["time_us"] |= {"median": us, "p20": us, "p80": us, "min": us}
    line["peers"] = [{"name": peer, "time_us": {"median": peer_us or us}, "peak_bytes": 9000}]
    return validated(line | {"derived": derive(line)})


def test_goals_are_met_or_not_by_the_share_of_the_measured_roof(record):
    decode = {"B": 128, "S": 4096, "H": 128, "C": 512, "R": 64}
    lines = [
        of(record, "rms_norm", 84.0),  # 235 MB at 3000 GB/s are 78.3 us: 93%
        of(record, "swiglu", 300.0),  # 268 us: 89%
        of(record, "mla_decode", 355.0, sizes=decode),  # 213 us: 60%
        of(record, "fp8_gemm", 300.0),  # 160 us: 53%
        of(record, "mla_prefill", 7000.0),  # 3436 us: 49%
        of(record, "grouped_gemm", 8000.0, "torch._grouped_mm", 8100.0),  # 4810 us: 60%
        of(record, "grouped_gemm_backward", 12_000.0, "torch._grouped_mm", 11_000.0),  # 9621 us: 80%, but slower
        of(record, "log_probs", 21_000.0, peer_us=22_000.0, peak_bytes=800),
        of(record, "token_loss", 80_000.0, peer_us=90_000.0, peak_bytes=1000),
    ]
    said = report(lines)
    for line in [
        "rms_norm (M 8192, D 7168): met (93%)", "swiglu (M 65536, F 2048): not met (89%)",
        "mla_decode (B 128, S 4096, H 128, C 512, R 64): met (60%)", "fp8_gemm (M 8192, F 2048, D 7168): met (53%)",
        "W 128): not met (49%)", "D 7168): met (60%, 1.01x as fast as torch._grouped_mm)",
        "D 7168): not met (80%, 0.92x as fast as torch._grouped_mm)",
        "log_probs (M 8192, V 129280, D 7168): met (1.05x as fast as torch, 9% of its memory)",
        "token_loss (M 8192, V 129280, D 7168): not met (1.12x as fast as torch, 11% of its memory)",
    ]:  # fmt: skip
        assert line in said
    assert said.count("mla_decode") == 1 and "not measured" not in said


def test_without_records_every_goal_is_not_measured():
    assert report([]).count("not measured") == len(GOALS) and "No GPU has been measured" in report([])


def test_a_peer_that_was_not_timed_is_no_win(record):
    said = report([of(record, "grouped_gemm", 5000.0), of(record, "log_probs", 21_000.0, peer="other")])
    assert "not met (96%, torch._grouped_mm was not timed)" in said and "not met (torch was not timed)" in said
