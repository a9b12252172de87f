"""What a committed notebook must be, whatever it teaches: in step with its source, executed, small, of no machine.

Each function gives a list of problems in words; an empty list means none. The builder prints them to the author, the
tests demand that there are none.
"""

import ast
import json
import re

from nbformat import NotebookNode

__all__ = ["MAX_BYTES", "fatal", "out_of_step", "outputs_text", "untidy"]

MAX_BYTES = 1_500_000
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|work|Users|opt|usr|srv|private|var)/[\w.]|[A-Z]:\\+Users")
ANSI = re.compile(r"\x1b\[[0-9;]*m")
SHOWS = {"print", "display", "show", "check", "guess", "hints", "receipt", "compare_table"}


def outputs_text(cell: NotebookNode) -> str:
    """Everything a cell's outputs say in text: streams, text and HTML data, error messages. No images."""
    parts = []
    for output in cell.get("outputs", []):
        parts.append(output.get("text", ""))
        parts += [
            json.dumps(v) if not isinstance(v, str) else v
            for k, v in output.get("data", {}).items()
            if not k.startswith("image/")
        ]
        parts += [output.get("evalue", ""), *output.get("traceback", [])]
    return "\n".join(parts)


def fatal(notebook: NotebookNode) -> list[str]:
    """Errors, warnings and machine paths in outputs. A notebook with one of these is not even written."""
    problems = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                trace = ANSI.sub("", "\n".join(output.traceback)).splitlines()
                problems.append(
                    "\n      ".join([f"cell {number} raises {output.ename}: {output.evalue}", *trace[-12:]])
                )
            if output.output_type == "stream" and output.name == "stderr":
                problems.append(
                    f"cell {number} writes to stderr, which readers see as a warning: {output.text.strip()[:200]!r}"
                )
        found = MACHINE_PATH.search(outputs_text(cell))
        if found:
            text = outputs_text(cell)
            problems.append(
                f"cell {number} prints a path of this machine: {text[max(found.start() - 20, 0) : found.end() + 40]!r}"
            )
    return problems


def out_of_step(notebook: NotebookNode, source: NotebookNode) -> list[str]:
    """Where the notebook is not what its source says: number, type, text, tags or id of a cell, or the notebook's
    metadata."""
    if len(notebook.cells) != len(source.cells):
        return [f"the notebook has {len(notebook.cells)} cells, its source {len(source.cells)}; build it again"]
    problems = [
        f"cell {number}: {part} differs between notebook and source; build it again"
        for number, (mine, theirs) in enumerate(zip(notebook.cells, source.cells, strict=True))
        for part in ("cell_type", "source", "id", "metadata")
        if mine.get(part) != theirs.get(part)
    ]
    if notebook.metadata != source.metadata:
        problems.append(f"metadata is {dict(notebook.metadata)}; expected {dict(source.metadata)}")
    return problems


def untidy(notebook: NotebookNode, size_bytes: int) -> list[str]:
    """Too large, widget state or live widgets saved, cells that were not executed or whose output is missing."""
    problems = []
    if size_bytes > MAX_BYTES:
        problems.append(f"the notebook has {size_bytes:,} bytes; at most {MAX_BYTES:,}")
    if "widgets" in notebook.metadata:
        problems.append("widget state is saved in the notebook's metadata")
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    if counts != list(range(1, len(counts) + 1)):
        problems.append(f"code cells were not executed from top to bottom in one go: their counts are {counts}")
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        if any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in cell.outputs):
            problems.append(f"cell {number} keeps a live widget in its output")
        if not cell.outputs and _should_show(cell.source):
            problems.append(
                f"cell {number} should show something and has no output: {cell.source.strip().splitlines()[-1]!r}"
            )
    return problems


def _should_show(code: str) -> bool:
    tree = ast.parse(code)
    calls = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    last = tree.body[-1] if tree.body else None
    value = isinstance(last, ast.Expr) and not isinstance(last.value, ast.Call | ast.Constant | ast.Await)
    return bool(calls & SHOWS) or (value and not code.rstrip().endswith(";"))
