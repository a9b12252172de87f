"""`python -m minimoe_kernels.bench`: times every kernel on this machine's GPU. See `minimoe_kernels.bench`."""

import argparse
import sys

import torch

from minimoe_kernels import bench
from minimoe_kernels.bench.clock import CudaClock
from minimoe_kernels.bench.goals import report
from minimoe_kernels.timing_records import TIMINGS, read_records
from minimoe_kernels.work import DATASHEETS, floors_us

H100 = "NVIDIA H100 80GB HBM3"
NO_GPU = "There is no GPU here that PyTorch can use: nothing is timed, and nothing is written. --list shows the floors."


def listed(cases) -> str:
    """The cases, what each must move and compute, and the floor under its time by an H100's datasheet."""
    sheet, lines = DATASHEETS[H100], [f"{'MB':>10}{'GFLOP':>12}{'us at least':>13}  bound by    case"]
    for case in cases:
        memory, arithmetic = floors_us(case.work, sheet[case.work.dtype], sheet["GBs"])
        which = "bandwidth" if memory >= arithmetic else "compute"
        numbers = f"{case.work.bytes / 1e6:10,.1f}{case.work.flops / 1e9:12,.1f}{max(memory, arithmetic):13,.1f}"
        lines.append(f"{numbers}  {which:10}  {case.label}")
    return "\n".join([*lines, f"Floors by the datasheet of the {H100}; they are no times."])


def timed(case, clock, options) -> str:
    """One line: what was measured, or why nothing was. The record is appended."""
    leave_out = ("torch.compile",) if options.no_compile else ()
    record = bench.run(case, clock, clock.device, options.rounds, leave_out)
    warnings = bench.append(record, options.out)
    time, derived = record["time_us"], record["derived"]
    beside = "; ".join(f"{peer['name']} {peer['time_us']['median']:,.1f}" for peer in record["peers"])
    gone = "".join(f"\n  left out {name}: {why}" for name, why in record["left_out"].items())
    share = f"{derived['pct_of_roof_measured']:.0f}% of the measured roof"
    head = f"{case.label}: {time['median']:,.1f} us ({time['p20']:,.1f} to {time['p80']:,.1f}), {share}"
    return f"{head}; {beside}{gone}" + "".join(f"\n  WARNING {said}" for said in warnings)


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=bench.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="the cases and their floors; needs no GPU")
    parser.add_argument("--goals", action="store_true", help="what the records reach; needs no GPU")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="cases whose label holds this word")
    parser.add_argument("--out", default=TIMINGS, metavar="DIR", help="where records go, a folder for each GPU")
    parser.add_argument("--rounds", type=int, default=3, help="how often every side is timed, at least 3")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out: it takes minutes")
    options = parser.parse_args(arguments)
    cases = [case for case in bench.CASES if not options.only or any(word in case.label for word in options.only)]
    if not cases:
        parser.error(f"--only {' '.join(options.only)}: no case has that in its label; see --list")
    if options.rounds < bench.ROUNDS:
        parser.error(f"--rounds {options.rounds}: at least {bench.ROUNDS}")
    if options.list or options.goals:
        print(listed(cases) if options.list else report(read_records(options.out)))
        return 0
    if not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        return 2
    return measure(cases, options)


def measure(cases, options, clock=None) -> int:
    """Every case; one that fails is reported, and the others go on. 1 if any failed."""
    clock, failed = clock or CudaClock(), []
    for case in cases:
        try:
            print(timed(case, clock, options), flush=True)
        except Exception as error:
            failed.append(case.label)
            print(f"{case.label}: NOT TIMED. {type(error).__name__}: {error}", flush=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    print(report(read_records(options.out)))
    if failed:
        print(f"{len(failed)} of {len(cases)} not timed: {'; '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
