"""Build the chapters: `NN_name.py`, which is written and reviewed, becomes `NN_name.ipynb`, which is read and run.

    python -m minimoe_course.build              execute every chapter and write its notebook python -m
    minimoe_course.build 01 02        only these python -m minimoe_course.build --check      no execution: are the
    notebooks what the sources say, and well formed? python -m minimoe_course.build --blank DIR  copies without outputs
    python -m minimoe_course.build --nbgrader DIR  copies without outputs, with nbgrader's markers and a test below
    every exercise

The source is jupytext's py:percent. The same source gives the same notebook, cell ids included, except for what the
code prints. Widgets are dropped from the outputs (their static twins stay), as are times and everything else about the
machine. A notebook whose code raises, warns on stderr, or prints a path of this machine is not written.

How the production version differs: Jupyter Book executes and publishes in one go. Here the executed notebook is the
product, because it is what a student opens.
"""

import argparse
import contextlib
import hashlib
import os
import re
import sys
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from minimoe_course import anatomy, guards

__all__ = ["EXPLORER", "blank", "execute", "main", "notebook_sources", "read_source", "tidy", "with_nbgrader"]

METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
EXPLORER = "explorer"
WIDGET = "application/vnd.jupyter.widget-view+json"


def read_source(path: Path) -> NotebookNode:
    """The notebook that a py:percent source describes: no outputs, cell ids sha1(chapter:index:type)[:8]."""
    notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    notebook.metadata = NotebookNode(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for index, cell in enumerate(notebook.cells):
        cell.id = hashlib.sha1(f"{path.stem}:{index}:{cell.cell_type}".encode()).hexdigest()[:8]
        tags = cell.metadata.get("tags")
        cell.metadata = NotebookNode({"tags": list(tags)} if tags else {})
    return notebook


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Run the cells in a fresh kernel of this Python, working in `folder`, with one thread; outputs are filled in.

    The first cell that raises is the last that runs; its error is among its outputs.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    class ThisPython(AsyncKernelManager):
        """Finds no kernel but this Python's: a "python3" that the user registered for another environment would win."""

        def _kernel_spec_manager_default(self):
            return KernelSpecManager(kernel_dirs=[])

    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        kernel_manager_class=ThisPython,
        store_widget_state=False,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    with contextlib.suppress(CellExecutionError):  # guards.fatal tells it, with the cell's number
        client.execute(env={**os.environ, "OMP_NUM_THREADS": "1"})
    return notebook


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Drop from the outputs what a committed notebook must not hold: widgets, progress bars, what the kernel adds to
    metadata."""
    notebook.metadata = NotebookNode(METADATA)
    for cell in notebook.cells:
        cell.metadata = NotebookNode({"tags": cell.metadata.tags} if cell.metadata.get("tags") else {})
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_tidy_output, _joined(cell.outputs)) if output is not None]
    return notebook


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs of one stream that follow each other as one: a progress line comes in as many pieces as it has states."""
    joined: list[NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last is not None and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def _tidy_output(output: NotebookNode) -> NotebookNode | None:
    if output.output_type == "stream" and "\r" in output.text:
        if output.name == "stderr":
            return None  # a progress bar: it has done its work
        output.text = re.sub(r"[^\n]*\r(?!\n)", "", output.text)
    if "data" in output and WIDGET in output.data:
        del output.data[WIDGET]
        # What is left is of use without a kernel, or else it is a repr like "VBox(children=(", which is of none.
        return (
            None
            if set(output.data) <= {"text/plain"} and re.match(r"\w+\(", output.data.get("text/plain", "x("))
            else output
        )
    return output


def blank(notebook: NotebookNode) -> NotebookNode:
    """The same notebook without outputs and execution counts, in place."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def with_nbgrader(notebook: NotebookNode) -> NotebookNode:
    """A blank copy in which every exercise is an nbgrader solution cell with a one-point test cell below it."""
    cells = []
    for cell in blank(notebook).cells:
        cells.append(cell)
        for key in anatomy.exercise_keys(cell):
            name = key.replace(".", "_")
            common = {"schema_version": 3, "locked": False}
            cell.metadata["nbgrader"] = common | {"grade": False, "solution": True, "task": False, "grade_id": name}
            test = nbformat.v4.new_code_cell(
                f'from minimoe_course import grade\n\ngrade("{key}", {key.split(".")[1]})', id=f"t-{cell.id}"
            )
            marks = {
                "grade": True,
                "solution": False,
                "task": False,
                "points": 1,
                "locked": True,
                "grade_id": f"{name}_test",
            }
            test.metadata["nbgrader"] = common | marks
            cells.append(test)
    notebook.cells = cells
    return notebook


def write(notebook: NotebookNode, path: Path) -> None:
    """Write the notebook as JSON with sorted keys and a final newline."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nbformat.writes(notebook, version=4).rstrip("\n") + "\n", encoding="utf-8")


def build(source: Path) -> list[str]:
    """Execute one chapter and write its notebook beside it. Gives the problems found; with a fatal one nothing is
    written."""
    notebook = tidy(execute(read_source(source), source.parent))
    fatal = guards.fatal(notebook)
    if fatal:
        return fatal
    target = source.with_suffix(".ipynb")
    write(notebook, target)
    return check(source)


def check(source: Path) -> list[str]:
    """Problems of a notebook as it stands: out of step with its source, guards, anatomy. Executes nothing."""
    target = source.with_suffix(".ipynb")
    if not target.exists():
        return [f"{target.name} does not exist; build it"]
    notebook = nbformat.read(target, as_version=4)
    return [
        *guards.out_of_step(notebook, read_source(source)),
        *guards.fatal(notebook),
        *guards.untidy(notebook, target.stat().st_size),
        *(anatomy.problems(notebook, source.stem[:2]) if source.stem != EXPLORER else []),
    ]


def notebook_sources(folder: Path) -> list[Path]:
    """The sources in `folder`: the chapters in order, and the explorer, which is a notebook and not a chapter."""
    return [*sorted(folder.glob("[0-9][0-9]_*.py")), *folder.glob(f"{EXPLORER}.py")]


def main(arguments: list[str] | None = None) -> int:
    """The command line; gives the exit status, 1 if any chapter has a problem."""
    parser = argparse.ArgumentParser(prog="python -m minimoe_course.build", description=__doc__.split("\n")[0])
    parser.add_argument("chapters", nargs="*", metavar="NN", help=f"two digits, or {EXPLORER}; all if none is given")
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).resolve().parents[1], help="where the sources are"
    )
    parser.add_argument("--check", action="store_true", help="execute nothing, report what is wrong")
    parser.add_argument("--blank", type=Path, metavar="DIR", help="write copies without outputs")
    parser.add_argument("--nbgrader", type=Path, metavar="DIR", help="write copies with nbgrader's markers")
    options = parser.parse_args(arguments)
    wanted = set(options.chapters)
    sources = [p for p in notebook_sources(options.folder) if not wanted or {p.name[:2], p.stem} & wanted]
    if not sources:
        print(f"no chapter {' '.join(options.chapters) or 'at all'} in {options.folder}", file=sys.stderr)
        return 1
    problems = 0
    for source in sources:
        if options.blank or options.nbgrader:
            make, folder = (blank, options.blank) if options.blank else (with_nbgrader, options.nbgrader)
            write(make(read_source(source)), folder / f"{source.stem}.ipynb")
            print(f"{source.stem}: written to {folder}")
            continue
        found = check(source) if options.check else build(source)
        problems += len(found)
        print(f"{source.stem}: " + ("fine" if not found else "\n  - ".join(["", *found])))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
