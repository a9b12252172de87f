"""The parts every chapter has, found by the tags of its cells, and the words no chapter uses.

A reader never sees a tag, so headings stay free. The parts, in order: promise, setup, question, by-hand, beat (three
to five), exercise (three or more), play, tiny-vs-real, when-it-pays, check-yourself, summary, sources, next. One cell
may carry several. `problems` lists what is missing or too long, in words for the author.
"""

import ast
import re

from nbformat import NotebookNode

from minimoe_course.guards import outputs_text

__all__ = ["FILLER", "PARTS", "exercise_keys", "filler", "problems"]

PARTS = (
    "promise", "setup", "question", "by-hand", "beat", "exercise", "play", "tiny-vs-real", "when-it-pays",
    "check-yourself", "summary", "sources", "next",
)  # fmt: skip
FILLER = (
    "simply powerful just obviously clearly easy easily beautiful beautifully surprising surprisingly trivial "
    "trivially straightforward leverage seamless robust delve crucial"
).split() + ["let's dive in", "dive into", "as we can see", "it is important to note", "it's important to note"]
FILLER += ["in this section we", "of course"]
BANNED_SETUP = re.compile(r"^\s*[!%]|\bpip\b|sys\.path|chdir|__file__", re.MULTILINE)


def tagged(notebook: NotebookNode, tag: str) -> list[NotebookNode]:
    """The cells that carry `tag`, in order."""
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def exercise_keys(cell: NotebookNode) -> list[str]:
    """The keys of the exercises that a code cell checks: the first argument of each `check("NN.name", ...)`."""
    return re.findall(r"\bcheck\(\s*[\"'](\d\d\.\w+)[\"']", cell.source) if cell.cell_type == "code" else []


def problems(notebook: NotebookNode, chapter: str) -> list[str]:
    """Everything about the chapter's form that the guide asks for and the notebook lacks."""
    missing = [f"no cell is tagged {part!r}" for part in PARTS if not tagged(notebook, part)]
    if missing:
        return missing
    first = [notebook.cells.index(tagged(notebook, part)[0]) for part in PARTS]
    found = []
    if first != sorted(first):
        order = sorted(PARTS, key=lambda part: first[PARTS.index(part)])
        found.append(f"the parts stand in the order {', '.join(order)}")
    found += _opening(notebook, chapter) + _middle(notebook) + _exercises(notebook, chapter) + _closing(notebook)
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            found += [f"cell {number} says {word!r}" for word in filler(cell.source)]
    return found


def _opening(notebook: NotebookNode, chapter: str) -> list[str]:
    promise, setup, question = (tagged(notebook, part)[0] for part in PARTS[:3])
    found = []
    if notebook.cells[0] is not promise:
        found.append("the first cell is not the promise")
    if not re.match(rf"# {chapter}\b", promise.source):
        found.append(f"the title does not begin with '# {chapter}'")
    for what, pattern in (
        ("minutes", r"\d+ minutes"),
        ("prerequisites", r"(?i)prerequisite"),
        ("'able to'", r"able to"),
    ):
        if not re.search(pattern, promise.source):
            found.append(f"the promise does not state {what}")
    bullets = len(re.findall(r"^\s*(?:[-*]|\d\.) ", promise.source.partition("able to")[2], re.MULTILINE))
    if bullets != 3:
        found.append(f"after 'able to' stand {bullets} points; expected 3")
    lines = _lines(setup.source)
    if setup.cell_type != "code" or len(lines) > 5:
        found.append(f"the setup cell is {setup.cell_type} with {len(lines)} lines; expected code with at most 5")
    if BANNED_SETUP.search(setup.source):
        found.append("the setup cell installs something or changes a path")
    if not re.search(r"\bsetup\(", setup.source):
        found.append("the setup cell does not call setup()")
    if not re.search(r"\d", question.source) or "?" not in question.source:
        found.append("the question has no number or no question mark")
    return found


def _middle(notebook: NotebookNode) -> list[str]:
    found = []
    by_hand = [cell for cell in tagged(notebook, "by-hand") if cell.cell_type == "code"]
    if not by_hand:
        found.append("the by-hand part has no code cell")
    for cell in by_hand:
        if len(_lines(cell.source)) > 12 or not cell.outputs:
            found.append(
                f"a by-hand cell has {len(_lines(cell.source))} lines and {len(cell.outputs)} outputs; "
                "expected at most 12 and at least 1"
            )
    compared = tagged(notebook, "nbval-check-output")
    if not compared:
        found.append(
            "no cell is tagged 'nbval-check-output': nothing that the chapter prints is compared when it is tested"
        )
    if any(_has(cell, "image/png") for cell in compared):
        found.append("a cell tagged 'nbval-check-output' shows a picture; print the numbers in a cell of their own")
    beats = len(tagged(notebook, "beat"))
    if not 3 <= beats <= 5:
        found.append(f"{beats} cells are tagged 'beat'; expected 3 to 5")
    return found


def _exercises(notebook: NotebookNode, chapter: str) -> list[str]:
    found, cells = [], notebook.cells
    exercises = [(i, cell) for i, cell in enumerate(cells) if "exercise" in cell.metadata.get("tags", [])]
    if len(exercises) < 3:
        found.append(f"{len(exercises)} cells are tagged 'exercise'; expected 3 or more")
    for i, cell in exercises:
        keys = exercise_keys(cell)
        if len(keys) != 1 or not keys[0].startswith(chapter):
            found.append(f"exercise cell {i} checks {keys}; expected one exercise of chapter {chapter}")
            continue
        key, name = keys[0], keys[0].split(".")[1]
        stubs = [
            node for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef) and node.name == name
        ]
        if not stubs or stubs[0].end_lineno - stubs[0].lineno + 1 > 10:
            found.append(f"{key}: the cell needs a stub `def {name}` of at most 10 lines")
        if not re.search(rf"\b{name}\s*=\s*check\(", cell.source):
            found.append(f"{key}: write `{name} = check(...)`, so that the notebook goes on")
        if "not yet" not in outputs_text(cell):
            found.append(f"{key}: the committed output is not 'not yet'; ship the stub unwritten")
        task = cells[i - 1].source if cells[i - 1].cell_type == "markdown" else ""
        for what, pattern in (
            ("a formula", r"\$"),
            ("a difficulty (\u25cf\u25cb)", "[\u25cf\u25cb]{5}"),
            ("minutes", r"\d+ min"),
        ):
            if not re.search(pattern, task):
                found.append(f"{key}: the task above it does not state {what}")
        below = cells[i + 1].source if i + 1 < len(cells) else ""
        if not re.search(rf"hints\(\s*[\"']{re.escape(key)}[\"']", below):
            found.append(f'{key}: the cell below it is not hints("{key}")')
    return found


def _closing(notebook: NotebookNode) -> list[str]:
    found = []
    if not any(_has(cell, "image/png") for cell in tagged(notebook, "play")):
        found.append("the play part shows no static twin (image/png)")
    if not any(_has(cell, "text/html") for cell in tagged(notebook, "tiny-vs-real")):
        found.append("tiny-vs-real shows no table")
    if not any(cell.get("outputs") for cell in tagged(notebook, "when-it-pays")):
        found.append("when-it-pays measures nothing: none of its cells has an output")
    if not any("<details>" in cell.source for cell in tagged(notebook, "check-yourself")):
        found.append("check-yourself has no folded answer (<details>)")
    summary = tagged(notebook, "summary")[0].source
    points = len(re.findall(r"^\s*(?:[-*]|\d\.) ", summary, re.MULTILINE))
    if "summary" in summary.lower() and points < 3:
        found.append(f"the summary has {points} lines; expected 3")
    alts = [
        o.metadata.get("image/png", {}).get("alt")
        for c in notebook.cells
        for o in c.get("outputs", [])
        if "image/png" in o.get("data", {})
    ]
    if not all(alts):
        found.append(f"{alts.count(None)} pictures have no alt text; show them with show(figure, alt=...)")
    return found


def _has(cell: NotebookNode, mime: str) -> bool:
    return any(mime in output.get("data", {}) for output in cell.get("outputs", []))


def _lines(code: str) -> list[str]:
    return [line for line in code.splitlines() if line.strip() and not line.strip().startswith("#")]


def filler(markdown: str) -> list[str]:
    """The filler words and exclamation marks in a text, code, formulas, links and images left out."""
    text = re.sub(
        r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]*\$|!\[[^\]]*\]|\]\([^)]*\)|<[^>]+>", " ", markdown, flags=re.DOTALL
    )
    text = text.replace("\u2019", "'")
    words = [word for word in FILLER if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text, re.IGNORECASE)]
    return words + (["!"] if "!" in text else [])
