"""The sentences and tables of RefusalExplorer: titles that are the message, and texts for those who see no picture.

What the model said stands in them, so everything is escaped.

How the production version differs: a safety report gives one share for each set of questions, and no answer.
"""

from html import escape

from minimoe_widgets.refusal_run import Recipe, Tuning, first_below_half

__all__ = ["answers_html", "merged", "runs_html", "state", "tuning_alt", "tuning_title"]

CELL = 'style="padding:1px 12px 1px 0;text-align:left"'


def tuning_title(run: Tuning, step: int, forbidden: dict[str, bool]) -> str:
    """What is refused and what is given away after a step."""
    parts = []
    for name, said in run.records[step].items():
        if forbidden[name]:
            parts.append(f"{name} requests refused {said.refused:.0%}, right code {said.leaked:.0%}")
        else:
            parts.append(f"{name} ones refused {said.refused:.0%}, right {said.leaked:.0%}")
    when = f"after {step} step{'s' if step != 1 else ''} on" if step else "before any step on"
    return f"{when[0].upper()}{when[1:]} {run.recipe}: {'; '.join(parts)}"


def tuning_alt(run: Tuning, step: int, forbidden: dict[str, bool], request: tuple[str, int]) -> str:
    """The curves in words, and one request's answers."""
    group, place = request
    curves = []
    for name in forbidden:
        refused, leaked = run.shares(name)
        curves.append(
            f"{name} refused {refused[0]:.0%} to {refused[-1]:.0%}, right code {leaked[0]:.0%} to {leaked[-1]:.0%}"
        )
    told = "; ".join(f"{_span(first, last)}: {text}" for first, last, text in merged(run, group, place))
    return (
        f"{tuning_title(run, step, forbidden)}. Over {len(run.records) - 1} steps: {'; '.join(curves)}. Answers to "
        f"“{run.asked[group][place]}”, by step: {told}"
    )


def merged(run: Tuning, group: str, place: int) -> list[tuple[int, int, str]]:
    """One request's answers as (first step, last step, answer), equal neighbours in one row."""
    rows: list[tuple[int, int, str]] = []
    for step, found in enumerate(run.records):
        text = found[group].responses[place]
        if rows and rows[-1][2] == text:
            rows[-1] = (rows[-1][0], step, text)
        else:
            rows.append((step, step, text))
    return rows


def _span(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first} to {last}"


def answers_html(run: Tuning, group: str, place: int, at: int) -> str:
    """One request's answers at all steps; the row of step `at` is bold and has a mark."""
    rows = []
    for first, last, text in merged(run, group, place):
        here = first <= at <= last
        weight, mark = ("font-weight:600", "▶") if here else ("", "")
        rows.append(
            f'<tr style="{weight}"><td {CELL}>{mark}</td><td {CELL}>{_span(first, last)}</td>'
            f"<td {CELL}>{escape(text) or '(nothing)'}</td></tr>"
        )
    head = f"<tr><th></th><th {CELL}>steps</th><th {CELL}>answer</th></tr>"
    return f"<table>{head}{''.join(rows)}</table><div>First document: {escape(run.texts[0])}</div>"


def runs_html(runs: list[Tuning], group: str) -> str:
    """All runs made so far: when fewer than half of a group was refused, and what came of it."""
    heads = ("run", "steps", f"fewer than half of {group} refused from", "refused at the end", "right code at the end")
    rows = []
    for run in runs:
        last, half = run.records[-1][group], first_below_half(run.records, group)
        when = "never" if half is None else f"step {half}"
        cells = (str(run.recipe), len(run.records) - 1, when, f"{last.refused:.0%}", f"{last.leaked:.0%}")
        rows.append("<tr>" + "".join(f"<td {CELL}>{escape(str(cell))}</td>" for cell in cells) + "</tr>")
    return f"<table><tr>{''.join(f'<th {CELL}>{escape(head)}</th>' for head in heads)}</tr>{''.join(rows)}</table>"


def state(shown: Tuning, before: Tuning | None, wanted: Recipe, group: str) -> str:
    """What the picture shows while no step is made, and what could be run; "" if there is nothing to say."""
    refused, told = shown.records[0][group].refused, []
    if refused < 0.5:
        told.append(f"Before any step this model refuses {refused:.0%} of the {group} requests: not much to remove.")
    if wanted != shown.recipe:
        told.append(f"The picture shows {shown.recipe}. Press Run for {wanted}.")
    elif before is not None:
        told.append(f"Grey and dotted: what the run before refused, {before.recipe}.")
    return " ".join(told)
