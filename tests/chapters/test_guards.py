"""Every committed chapter, found by glob, is what its source says and what a chapter has to be.

Nothing is executed here: nbval runs the notebooks, and measures their time and memory while it does."""

import re
from pathlib import Path

import nbformat
import pytest

from minimoe_course import anatomy, build, guards

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "chapters").glob("*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if path.stem != build.EXPLORER]
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def test_there_are_chapters_and_each_has_a_source_and_a_notebook():
    assert CHAPTERS
    assert [path.stem for path in NOTEBOOKS] == [path.stem for path in build.notebook_sources(ROOT / "chapters")]


def test_chapters_are_numbered_from_00_without_a_gap():
    assert [path.stem[:2] for path in CHAPTERS] == [f"{number:02}" for number in range(len(CHAPTERS))]


@each_notebook
def test_the_notebook_is_in_step_with_its_source(path):
    assert guards.out_of_step(read(path), build.read_source(path.with_suffix(".py"))) == []


@each_notebook
def test_no_error_no_warning_and_no_path_of_a_machine_is_in_the_outputs(path):
    assert guards.fatal(read(path)) == []


@each_notebook
def test_it_is_executed_small_and_without_widget_state(path):
    assert guards.untidy(read(path), path.stat().st_size) == []


@each_notebook
def test_it_is_valid_and_names_the_kernel_python3(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"


@each_chapter
def test_it_has_the_parts_of_a_chapter_and_no_filler(path):
    assert anatomy.problems(read(path), path.stem[:2]) == []


@each_notebook
def test_the_tests_that_its_receipts_name_exist(path):
    named = {
        name
        for cell in read(path).cells
        for name in re.findall(r"asserted by (tests/\S+?\.py)", guards.outputs_text(cell))
    }
    assert [name for name in named if not (ROOT / name).exists()] == []


@each_notebook
def test_links_between_chapters_lead_somewhere(path):
    links = [
        link
        for cell in read(path).cells
        if cell.cell_type == "markdown"
        for link in re.findall(r"\]\(([^)#\s]+)", cell.source)
    ]
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if not (path.parent / link).exists()] == []


@each_chapter
def test_every_exercise_of_the_chapter_is_asked_once(path):
    from minimoe_course.exercise import all_exercises

    asked = [key for cell in read(path).cells for key in anatomy.exercise_keys(cell)]
    assert sorted(asked) == sorted(e.key for e in all_exercises() if e.key.startswith(path.stem[:2]))
