"""What README.md and CONTRIBUTING.md promise is there: links, files, commands, chapters, the repository's address."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CONTRIBUTING.md"]


@pytest.fixture(scope="module")
def readme():
    return (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def notebooks():
    return sorted(path.name for path in (ROOT / "chapters").glob("[0-9]*.ipynb"))


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_leads_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text())
    local = [link.split("#")[0] for link in links if not link.startswith("http")]
    assert local, "the page links to files"
    assert [link for link in local if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_make_command_exists(page):
    commands = set(re.findall(r"(?:^|`)make ([a-z]+)", (ROOT / page).read_text(), re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert "test" in commands and commands - targets == set()


def test_the_table_lists_every_chapter_once_in_order(readme, notebooks):
    assert notebooks
    assert re.findall(r"^\| \d\d \| \[.+?\]\(chapters/(\S+?\.ipynb)\) \| \d+ \|", readme, re.MULTILINE) == notebooks


def tree_of(readme):
    """{path: line} of the file tree: two spaces deeper is inside the last line that was less deep."""
    block = readme.split("## The tree")[1].split("```")[1]
    found, folder = {}, ""
    for line in block.strip("\n").splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name if name.endswith("/") else ""
        found[name if not line.startswith(" ") else folder + name] = line
    return found


def test_the_tree_names_what_exists(readme):
    tree = tree_of(readme)
    assert [path for path in tree if not (ROOT / path).exists()] == []
    assert [line for line in tree.values() if len(line.split()) < 3] == [], "each line says what the file is"


def test_the_tree_names_every_folder(readme):
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    folders = {name.split("/")[0] + "/" for name in done.stdout.split() if "/" in name and not name.startswith(".")}
    assert folders - set(tree_of(readme)) == set()


def test_the_readme_shows_a_picture_of_the_course(readme):
    (alt, path), *_ = re.findall(r"!\[(.+)\]\((\S+\.png)\)", readme)
    assert (ROOT / path).read_bytes().startswith(b"\x89PNG") and len(alt) > 30


def readme_tool(*arguments, root=ROOT):
    command = [sys.executable, str(root / "tools" / "readme.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_links_and_chapter_table_are_up_to_date():
    done = readme_tool("--check")
    assert done.returncode == 0, done.stderr


def test_the_repository_s_address_is_set_in_one_place(tmp_path, notebooks):
    """Another address in pyproject.toml reaches every link, and the old one is nowhere else."""
    names = ["README.md", "CITATION.cff", "pyproject.toml", "tools/readme.py", "chapters/costs.json"]
    names += [f"chapters/{n}" for n in notebooks]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    project = tmp_path / "pyproject.toml"
    old = re.search(r'Repository = "https://github.com/(.+?)"', project.read_text())[1]
    project.write_text(project.read_text().replace(old, "ada/engine"))
    assert readme_tool("--check", root=tmp_path).returncode != 0
    assert readme_tool(root=tmp_path).returncode == 0
    for name in ("README.md", "CITATION.cff"):
        text = (tmp_path / name).read_text()
        assert old not in text and "ada/engine" in text
