"""The readable side of a result: one markdown page for each measurement."""


def header(machine: dict) -> str:
    """Machine, versions, command: the lines above every table."""
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v)
    load = "; load average {} before, {} after".format(
        " ".join(map(str, machine["load_average"])), " ".join(map(str, machine["load_average_after"]))
    )
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['vector_unit']}; Python {machine['python']}, "
        f"{versions}; minimoe at {machine['commit']}{load}.\n`{machine['command']}`, seed {machine['seed']}.\n"
    )


def rows(head: list, body: list) -> str:
    """A markdown table."""
    lines = ["| " + " | ".join(map(str, line)) + " |" for line in [head, ["---"] * len(head), *body]]
    return "\n".join(lines) + "\n"


def spread(values: dict) -> str:
    """Median and range."""
    return f"{values['median']:.0f} ({values['range'][0]:.0f}-{values['range'][1]:.0f})"


def ratio_of(ratio: dict) -> str:
    """One sentence: how many times faster, than whom, and how it spread over the rounds."""
    low, high = ratio["paired"]["quartiles"]
    return (
        f"minimoe is {ratio['ratio']:.2f}x as fast as {ratio['fastest_other']} "
        f"(round by round {ratio['paired']['median']:.2f}, quartiles {low:.2f}-{high:.2f})"
    )


def train(result: dict) -> str:
    """The training step: times, ratios, shares, and the bare matrix products."""
    body, ratios, parts = [], [], []
    for run in result["runs"]:
        for name in run["cpu_ms"]:
            times = [spread(run[clock][name]) for clock in ("cpu_ms", "wall_ms")]
            body.append([run["threads"], name, *times, f"{run['cpu_ratio']['all'][name]:.2f}"])
        for ratio in (run["cpu_ratio"], run["wall_ratio"]):
            ratios.append(f"- {run['threads']} thread(s), {ratio['clock'][:-3]} time: {ratio_of(ratio)}")
        if "shares" in run:
            parts.append(_train_parts(run))
    out = f"{result['runs'][0]['what']}; medians and range, milliseconds.\n\n"
    out += rows(["threads", "side", "CPU ms", "wall ms", "CPU over ours"], body)
    return out + "\n" + "\n".join(ratios) + "\n\n" + "\n".join(parts)


def _train_parts(run: dict) -> str:
    sides = list(run["shares"])
    kinds = list(run["shares"][sides[0]]["percent"])
    body = [[kind, *(run["shares"][s]["percent"].get(kind, 0.0) for s in sides)] for kind in kinds]
    body.append(["operators a step", *(run["shares"][s]["operators"] for s in sides)])
    alone, step = run["products_alone"], run["cpu_ms"]["minimoe"]["median"]
    text = f"Where the time goes, {run['threads']} thread(s), percent of the step under the profiler:\n\n"
    text += rows(["kind", *sides], body)
    return text + (
        f"\nThe {alone['count']} matrix products of minimoe's step ({alone['gflop']} GFLOP) run alone take "
        f"{spread(alone['cpu_ms'])} CPU ms: the whole step is {step / alone['cpu_ms']['median']:.2f} times that.\n"
    )


def decode(result: dict) -> str:
    """Greedy decoding: tokens a second and ratios for every batch size."""
    body, ratios = [], []
    for run in result["runs"]:
        for part in run["batches"]:
            for name, per_second in part["tokens_per_cpu_second"].items():
                times = [spread(part[clock][name]) for clock in ("cpu_ms", "wall_ms")]
                over = f"{part['cpu_ratio']['all'][name]:.2f}"
                body.append([part["batch"], name, f"{per_second:.0f}", *times, over])
            for ratio in (part["cpu_ratio"], part["wall_ratio"]):
                ratios.append(f"- {part['batch']} row(s), {ratio['clock'][:-3]} time: {ratio_of(ratio)}")
    equal = ", ".join(f"{p['tokens_equal']} with {p['batch']} row(s)" for p in result["runs"][0]["batches"])
    out = f"{result['runs'][0]['what']}; {result['runs'][0]['threads']} thread; medians and range.\n"
    out += f"All sides said the same tokens: {equal}.\n\n"
    out += rows(["rows", "side", "tokens per CPU second", "CPU ms", "wall ms", "CPU over ours"], body)
    return out + "\n" + "\n".join(ratios) + "\n"


def experts(result: dict) -> str:
    """Cost against the number of routed experts, relative to the fewest."""
    run = result["runs"][0]
    out = f"{run['what']}; {run['threads']} thread; CPU ms, median and range, and the multiple of the first row.\n"
    out += "Decoding is short here: the prefill weighs more and the cache less than in the decoding table.\n"
    for what in ("train", "decode"):
        first = run["counts"][0][what]
        body = []
        for count in run["counts"]:
            cells = [f"{spread(v)}, {v['median'] / first[n]['median']:.2f}x" for n, v in count[what].items()]
            body.append([count["experts"], *cells, f"{count[f'{what}_ratio']['ratio']:.2f}"])
        out += f"\n{'Training step' if what == 'train' else 'Decoding, 64 rows by 32 tokens'}:\n\n"
        out += rows(["routed experts", *first, "best other over minimoe"], body)
    return out


def loop(result: dict) -> str:
    """The complete loop: times, what it adds to the bare step, and where its time goes."""
    out = ""
    for run in result["runs"]:
        low, high = run["overhead_percent"]["quartiles"]
        body = [[name, spread(ms), f"{run['cpu_ratio']['all'][name]:.2f}"] for name, ms in run["cpu_ms"].items()]
        out += f"{run['what']}; {run['threads']} thread(s); CPU milliseconds, median and range.\n\n"
        out += rows(["side", "CPU ms", "over ours"], body)
        out += (
            f"\nThe loop adds {run['overhead_percent']['median']:.1f}% to the bare step, round by round "
            f"(quartiles {low:.1f} to {high:.1f}). {ratio_of(run['cpu_ratio'])}.\n\n"
        )
        count = run["shares"]["operators"]
        out += f"Where the complete step's time goes, percent under the profiler ({count} operators):\n\n"
        out += rows(["kind", "percent"], list(run["shares"]["percent"].items())) + "\n"
    return out


def speculation(result: dict) -> str:
    """Speculative against plain decoding: calls, time, prices of a step, and the speed-up they predict."""
    run = result["runs"][0]
    body = []
    for r in run["results"]:
        ratio, times = r["speedup"], [spread(r["cpu_ms"][name]) for name in ("plain", "speculative")]
        low, high = ratio["quartiles"]
        calls = f"{r['calls']['plain']} / {r['calls']['speculative']}"
        cells = [r["layers"], r["batch"], r["temperature"], f"{r['acceptance']:.2f}", calls, *times]
        cells += [f"{ratio['median']:.2f} ({low:.2f}-{high:.2f})", f"{r['check']:.2f}", f"{r['draft']:.2f}"]
        body.append([*cells, f"{r['predicted']:.2f}"])
    head = ["layers", "rows", "temperature", "drafts kept", "calls, plain / speculative", "plain CPU ms"]
    head += ["speculative CPU ms", "speed-up", "check", "draft", "(1 + a) / (check + draft)"]
    out = f"{run['what']}; {run['threads']} thread; medians and range; speed-up round by round, quartiles.\n"
    out += "At temperature 0 both ways said the same tokens. 3 layers are `data/nano`; the deeper ones are nano with\n"
    out += "silent layers. check and draft: the trunk on two tokens, and the module, in units of the trunk on one.\n\n"
    return out + rows(head, body)


def grpo(result: dict) -> str:
    """A GRPO step: samples a second and ratios."""
    run = result["runs"][0]
    out = f"{run['what']}; {run['threads']} thread; medians and range.\n"
    for case in run["cases"]:
        body = []
        for name, per_second in case["samples_per_cpu_second"].items():
            times = [spread(case[clock][name]) for clock in ("cpu_ms", "wall_ms")]
            body.append([name, f"{per_second:.0f}", *times, f"{case['cpu_ratio']['all'][name]:.2f}"])
        out += (
            f"\n{case['parameters']:,} parameters, {case['prompts']} prompts of {case['prompt_tokens']} tokens, "
            f"{case['answers']} answers of {case['tokens']} tokens to each:\n\n"
        )
        out += rows(["side", "answers per CPU second", "CPU ms", "wall ms", "CPU over ours"], body) + "\n"
        for ratio in (case["cpu_ratio"], case["wall_ratio"]):
            out += f"- {ratio['clock'][:-3]} time: {ratio_of(ratio)}\n"
    return out


def simulator(result: dict) -> str:
    """The simulator beside Triton's interpreter."""
    run = result["runs"][0]
    out, body, ratios = f"{run['what']}; {run['threads']} thread; CPU ms, median and range.\n\n", [], []
    for case in run["cases"]:
        for name, ms in case["cpu_ms"].items():
            over = f"{case['ratio']['all'][name]:.1f}"
            body.append([case["dtype"], f"{case['tile']} x {case['tile']}", name, spread(ms), over])
        ratios.append(f"- {case['dtype']}, tiles of {case['tile']} x {case['tile']}: {ratio_of(case['ratio'])}")
    out += rows(["type", "tiles", "side", "CPU ms", "over the simulator"], body) + "\n" + "\n".join(ratios)
    faults = ", ".join(run["faults_of_the_interpreter"]) or "nothing"
    return out + f"\n\nWithout the repair the interpreter gets wrong: {faults}.\n"


def imports(result: dict) -> str:
    """Import times."""
    body = [[name, f"{t['wall_s']:.3f}", f"{t['cpu_s']:.3f}"] for name, t in result["runs"][0]["imports"].items()]
    return f"{result['runs'][0]['what']}, medians.\n\n" + rows(["what", "wall s", "CPU s"], body)


PAGES = {
    "train": ("A training step beside transformers", train),
    "loop": ("The complete training loop", loop),
    "decode": ("Greedy decoding beside transformers", decode),
    "experts": ("The cost of more experts", experts),
    "speculation": ("Speculative against plain decoding", speculation),
    "grpo": ("A GRPO step beside TRL", grpo),
    "simulator": ("The simulator beside Triton's interpreter", simulator),
    "import": ("Import time", imports),
}


def table(name: str, result: dict) -> str:
    """The markdown page of a measurement."""
    title, body = PAGES[name]
    return f"# {title}\n\n{header(result['machine'])}\n{body(result)}"
