"""The whole way of a chapter, from text to a notebook that nbval runs, on the skeleton that the guide shows."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import psutil
import pytest

from minimoe_course import anatomy, build, guards

README = Path(build.__file__).with_name("README.md")


def skeleton() -> str:
    """The guide's skeleton, with its one exercise three times."""
    text = next(
        block
        for block in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
        if "%%" in block
    )
    start, end = text.index("# %% [markdown]\n# ### Exercise"), text.index('# %% [markdown] tags=["play"]')
    return text[:start] + 3 * text[start:end] + text[end:]


@pytest.fixture(scope="module")
def chapter(tmp_path_factory):
    """The skeleton, built once."""
    source = tmp_path_factory.mktemp("chapters") / "01_skeleton.py"
    source.write_text(skeleton(), encoding="utf-8")
    assert build.build(source) == []
    return source


@pytest.fixture
def notebook(chapter):
    return nbformat.read(chapter.with_suffix(".ipynb"), as_version=4)


def test_the_guides_skeleton_builds_into_a_chapter_without_a_problem(chapter):
    assert build.main(["--folder", str(chapter.parent), "--check", "01"]) == 0


def test_the_explorer_is_built_by_name_and_needs_no_parts_of_a_chapter(tmp_path, capsys):
    (tmp_path / "explorer.py").write_text("# %% [markdown]\n# # A page\n\n# %%\nprint(1 + 1)\n")
    (tmp_path / "conftest.py").write_text("raise SystemExit")  # other Python files are no notebooks
    assert build.main(["--folder", str(tmp_path), "explorer"]) == 0
    assert build.main(["--folder", str(tmp_path), "--check"]) == 0 and capsys.readouterr().out == "explorer: fine\n" * 2
    assert "2" in guards.outputs_text(nbformat.read(tmp_path / "explorer.ipynb", as_version=4).cells[1])


def test_building_twice_gives_the_same_bytes(chapter):
    before = chapter.with_suffix(".ipynb").read_bytes()
    assert build.build(chapter) == []
    assert chapter.with_suffix(".ipynb").read_bytes() == before


def test_a_committed_guess_is_its_question_with_a_folded_answer_and_no_widget(notebook):
    cell = next(cell for cell in notebook.cells if cell.source.startswith("guess("))
    (output,) = cell.outputs
    assert set(output.data) == {"text/plain", "text/markdown"}
    assert "<details>" in output.data["text/markdown"] and "3.536" in output.data["text/markdown"]


def test_figures_carry_their_alt_text_and_a_small_png(notebook):
    pictures = [o for c in notebook.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(pictures) == 2
    for picture in pictures:
        assert picture.metadata["image/png"]["alt"] == picture.data["text/plain"]
        assert len(picture.data["image/png"]) < 150_000


def test_hints_stay_folded_in_exported_html(notebook):
    nbconvert = pytest.importorskip("nbconvert", reason="un-skip when nbconvert is installed")
    page, _ = nbconvert.HTMLExporter().from_notebook_node(notebook)
    assert page.count("<summary>Solution</summary>") == 3
    assert page.count("<details>") == page.count("</details>") == 3 * 3 + 1 + 1 + 2
    assert "&lt;details&gt;" not in page
    assert page.count("Two bars; the paper") == 2


def test_nbval_runs_the_notebook_and_its_budget_within_one_kernel(chapter):
    options = [
        "--nbval-lax",
        "--nbval-current-env",
        "-p",
        "minimoe_course.budget",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-v",
    ]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, chapter.with_suffix(".ipynb").name],
        cwd=chapter.parent, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:]
    assert "::budget PASSED" in run.stdout and " failed" not in run.stdout


@pytest.mark.parametrize(
    "code, problem",
    [
        ("print('/home/student/course')", "cell 1 prints a path of this machine"),
        ("raise KeyError(7)", "cell 1 raises KeyError"),
        ("import warnings\nwarnings.warn('old')", "cell 1 writes to stderr"),
    ],
)
def test_a_chapter_that_fails_warns_or_names_this_machine_is_not_written(tmp_path, code, problem):
    source = tmp_path / "01_broken.py"
    source.write_text(f"# %%\nprint(1)\n\n# %%\n{code}\n", encoding="utf-8")
    assert problem in "\n".join(build.build(source))
    assert not source.with_suffix(".ipynb").exists()


def test_the_kernel_is_this_python_with_one_thread_whatever_the_user_has_registered(tmp_path, monkeypatch):
    other = tmp_path / "kernels" / "python3" / "kernel.json"
    other.parent.mkdir(parents=True)
    other.write_text('{"argv": ["no-such-python", "{connection_file}"], "display_name": "other", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    source = tmp_path / "00_kernel.py"
    source.write_text("# %%\nimport os, sys\nprint(sys.executable)\nprint(os.environ['OMP_NUM_THREADS'])\n")
    notebook = build.execute(build.read_source(source), tmp_path)
    assert notebook.cells[0].outputs[0].text.split() == [sys.executable, "1"]


def test_no_kernel_outlives_its_chapter(tmp_path):
    source = tmp_path / "00_kernel.py"
    source.write_text("# %%\nimport os\nprint(os.getpid())\n")
    notebook = build.execute(build.read_source(source), tmp_path)
    assert not psutil.pid_exists(int(notebook.cells[0].outputs[0].text))


def test_cell_ids_depend_on_the_source_alone(chapter, tmp_path):
    first, again = build.read_source(chapter), build.read_source(chapter)
    ids = [cell.id for cell in first.cells]
    assert ids == [cell.id for cell in again.cells] and len(set(ids)) == len(ids)


def test_a_missing_chapter_is_named(tmp_path, capsys):
    assert build.main(["--folder", str(tmp_path), "07"]) == 1
    assert "07" in capsys.readouterr().err


def test_blank_copies_have_no_outputs(chapter, tmp_path):
    assert build.main(["--folder", str(chapter.parent), "--blank", str(tmp_path)]) == 0
    copy = nbformat.read(tmp_path / "01_skeleton.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in copy.cells)


def test_nbgrader_copies_are_valid_and_have_a_test_below_every_exercise(chapter, tmp_path):
    assert build.main(["--folder", str(chapter.parent), "--nbgrader", str(tmp_path)]) == 0
    copy = nbformat.read(tmp_path / "01_skeleton.ipynb", as_version=4)
    nbformat.validate(copy)
    tests = [i for i, cell in enumerate(copy.cells) if cell.metadata.get("nbgrader", {}).get("grade")]
    assert len(tests) == 3
    assert all(
        copy.cells[i - 1].metadata["nbgrader"]["solution"] and 'grade("01.rms_norm", rms_norm)' in copy.cells[i].source
        for i in tests
    )


def test_progress_bars_and_live_widgets_are_dropped_from_what_is_committed(notebook):
    cell = notebook.cells[1]
    widget = {build.WIDGET: {"model_id": "1"}, "text/plain": "VBox(children=(HTML(value=''),))"}
    told = {build.WIDGET: {"model_id": "1"}, "text/plain": "An explorer; run this cell."}
    cell.outputs = [
        nbformat.v4.new_output("stream", name="stderr", text="10%\r50%\r100%"),
        *(nbformat.v4.new_output("stream", name="stdout", text=text) for text in ("\rstep 1", "\rstep", " 2\ndone\n")),
        nbformat.v4.new_output("display_data", data=widget),
        nbformat.v4.new_output("display_data", data={**widget, "text/markdown": "kept"}),
        nbformat.v4.new_output("display_data", data=told),
    ]
    notebook.metadata["widgets"] = {"state": {}}
    tidied = build.tidy(notebook)
    kept = [output.get("text") or set(output.data) for output in cell.outputs]
    assert kept == ["step 2\ndone\n", {"text/plain", "text/markdown"}, {"text/plain"}]
    assert "widgets" not in tidied.metadata


def damage(notebook, what):
    """Break one thing of a good notebook."""
    cells = notebook.cells
    if what == "source":
        cells[2].source += " more"
    elif what == "id":
        cells[2].id = "other"
    elif what == "cell":
        cells.pop()
    elif what == "output":
        next(c for c in cells if c.source.startswith("hints(")).outputs = []
    elif what == "widgets":
        notebook.metadata["widgets"] = {}
    elif what == "count":
        next(c for c in cells if c.cell_type == "code").execution_count = 9
    elif what == "kernel":
        notebook.metadata["kernelspec"] = {"name": "conda-env"}
    elif what == "large":
        cells[3].source += " " * guards.MAX_BYTES
    return notebook


@pytest.mark.parametrize("what", ["source", "id", "cell", "output", "widgets", "count", "kernel", "large"])
def test_a_damaged_notebook_is_noticed_without_executing_it(chapter, notebook, tmp_path, what):
    source = tmp_path / chapter.name
    source.write_bytes(chapter.read_bytes())
    build.write(notebook, source.with_suffix(".ipynb"))
    assert build.check(source) == []
    build.write(damage(notebook, what), source.with_suffix(".ipynb"))
    assert build.check(source) != []


@pytest.mark.parametrize(
    "find, put, problem",
    [
        ("30 minutes.", "Soon.", "does not state minutes"),
        ("# - third\n", "", "2 points"),
        ("import torch\n", "import sys\nsys.path.append('..')\n", "changes a path"),
        ("import torch\n", "import torch\nimport math\nimport json\n", "6 lines"),
        (", or 37?\n# A question with real numbers in it. Which 37?", "", "no question mark"),
        ("x_MD = torch.tensor", "\n".join(f"a{i} = {i}" for i in range(12)) + "\nx_MD = torch.tensor", "14 lines"),
        ('# %% [markdown] tags=["beat"]\n# ## A third', "# %% [markdown]\n# ## A third", "2 cells are tagged 'beat'"),
        ("    ...  # your code", "    ...\n" + "    # line\n" * 10 + "    return", "at most 10 lines"),
        ("# \u25cf\u25cb\u25cb\u25cb\u25cb \u00b7 5 min", "# 5 min", "difficulty"),
        ('hints("01.rms_norm")', "print(1)", "the cell below it"),
        (
            "    ...  # your code",
            "    return x_MD / (x_MD.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight_D",
            "unwritten",
        ),
        ('tags=["play"]\n# explorer', "\n# explorer", "no static twin"),
        ("# A question with real", "# Just a powerful question with real", "'powerful'"),
        ('"play"', '"toy"', "no cell is tagged 'play'"),
        ("# - three\n", "", "the summary has 2 lines"),
        (', "nbval-check-output"', "", "nbval-check-output"),
    ],
)
def test_a_missing_part_is_named(tmp_path, chapter, notebook, find, put, problem):
    assert find in skeleton()
    source = tmp_path / "01_other.py"
    source.write_text(skeleton().replace(find, put), encoding="utf-8")
    changed = build.read_source(source)
    outputs = {cell.source: cell for cell in notebook.cells if cell.cell_type == "code"}
    for cell in changed.cells:
        if cell.cell_type == "code" and cell.source in outputs:
            cell.outputs = outputs[cell.source].outputs
        elif cell.cell_type == "code":
            cell.outputs = [
                nbformat.v4.new_output(
                    "stream", text="\N{CHECK MARK} right" if "return x_MD" in cell.source else "not yet"
                )
            ]
    assert problem in "\n".join(anatomy.problems(changed, "01"))


def test_parts_in_another_order_are_noticed(notebook):
    notebook.cells.append(notebook.cells.pop(2))
    assert "order" in "\n".join(anatomy.problems(notebook, "01"))


def test_filler_is_found_in_prose_and_not_in_code_or_formulas():
    assert anatomy.filler("This is simply `just` $!$ an `x != y` [easy](a!b) ![clearly](x)") == ["simply", "easy"]
    assert anatomy.filler("A just-in-time compiler justifies itself.") == []
    assert anatomy.filler("Let\u2019s dive in!") == ["let's dive in", "!"]


def test_the_notebook_on_disk_is_plain_json_with_a_final_newline(chapter):
    text = chapter.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert text.endswith("}\n") and json.loads(text)["nbformat_minor"] == 5
