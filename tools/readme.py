"""Carry the repository's address and the list of chapters into README.md and CITATION.cff.

    python tools/readme.py           rewrite what stands between the markers
    python tools/readme.py --check   exit with 1, and say so, where a file is out of date

The address is set once, in pyproject.toml under [project.urls]. Titles and minutes are read from the first cell of each
notebook, processor seconds from chapters/costs.json, which `--costs FILE` writes from a run of the notebooks
(`make notebooks ARGS=--junitxml=FILE`). `make chapters` ends with this command, and a test runs the check.
"""

import json
import re
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
START = "00_start.ipynb"
COSTS = ROOT / "chapters" / "costs.json"


def address():
    """("owner/name", "name") of the repository, from pyproject.toml."""
    url = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    slug = url.removeprefix("https://github.com/")
    return slug, slug.split("/")[1]


def binder(slug, notebook):
    return f"https://mybinder.org/v2/gh/{slug}/main?urlpath=lab/tree/chapters/{notebook}"


def colab(slug, notebook):
    return f"https://colab.research.google.com/github/{slug}/blob/main/chapters/{notebook}"


def chapter(path):
    """(number, title, minutes) as the notebook's own first cell states them."""
    text = "".join(json.loads(path.read_text())["cells"][0]["source"])
    heading, minutes = re.search(r"^# (\d\d)\W+(.+)$", text, re.MULTILINE), re.search(r"(\d+) minutes", text)
    if not heading or not minutes:
        raise SystemExit(f'{path.name}: the first cell needs a heading "# {path.name[:2]} Title" and "NN minutes"')
    return heading[1], heading[2].strip(), minutes[1]


def read_costs(report):
    """Keep what the budget test of each notebook measured, as pytest wrote it."""
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        values = {p.get("name"): float(p.get("value")) for p in case.iter("property")}
        if "cpu_s" in values:
            notebook = case.get("classname").split(".")[1] if case.get("file") is None else Path(case.get("file")).stem
            found[notebook] = values
    if not found:
        raise SystemExit(f"{report} has no notebook with a measured cost")
    COSTS.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")


def costs_line():
    costs = json.loads(COSTS.read_text())
    total_s, peak_gb = sum(c["cpu_s"] for c in costs.values()), max(c["peak_gb"] for c in costs.values())
    return f"| | all {len(costs)} notebooks | | {total_s:.0f} | at most {peak_gb:.2f} GB of memory each |"


def chapters_block(slug):
    costs = json.loads(COSTS.read_text())
    rows = ["| | chapter | minutes | processor seconds | without installing |", "|---|---|---|---|---|"]
    for path in sorted((ROOT / "chapters").glob("[0-9]*.ipynb")):
        number, title, minutes = chapter(path)
        links = f"[Binder]({binder(slug, path.name)}) · [Colab]({colab(slug, path.name)})"
        cpu_s = f"{costs[path.stem]['cpu_s']:.0f}" if path.stem in costs else "not measured"
        rows.append(f"| {number} | [{title}](chapters/{path.name}) | {minutes} | {cpu_s} | {links} |")
    return "\n".join([*rows, costs_line()])


def elsewhere_block(slug, name):
    pull = f"hub/user-redirect/git-pull?repo=https%3A%2F%2Fgithub.com%2F{slug.replace('/', '%2F')}&branch=main"
    return f"""\
- **Binder**: [open chapter 00]({binder(slug, START)}). Built from `environment.yml`; one CPU and 2 GB of memory.
- **JupyterHub**: build the image with repo2docker from this repository, and give students one
  [nbgitpuller](https://nbgitpuller.readthedocs.io) link; their edits survive when you publish a correction:

  ```
  https://YOUR-HUB/{pull}&urlpath=lab%2Ftree%2F{name}%2Fchapters%2F{START}
  ```
- **Colab**: open a chapter from the table, and run this in a cell above it (not part of the gate):

  ```
  !git clone --depth 1 https://github.com/{slug}
  %cd {name}/chapters
  %pip install --quiet --no-deps .. anywidget==0.11.0 psygnal==0.16.1 einops==0.8.2
  from google.colab import output; output.enable_custom_widget_manager()
  ```"""


def filled(text, blocks):
    """`text` with what stands between `<!-- name -->` and `<!-- /name -->` replaced, for each name."""
    for name, block in blocks.items():
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, count = pattern.subn(lambda match, block=block: f"{match[1]}{block}\n{match[2]}", text)
        if count != 1:
            raise SystemExit(f"README.md has {count} places marked {name}; it needs one")
    return text


def main():
    if "--costs" in sys.argv[1:]:
        read_costs(sys.argv[sys.argv.index("--costs") + 1])
    slug, name = address()
    readme, citation = ROOT / "README.md", ROOT / "CITATION.cff"
    repository = f'repository-code: "https://github.com/{slug}"'
    blocks = {"chapters": chapters_block(slug), "elsewhere": elsewhere_block(slug, name)}
    wanted = {
        readme: filled(readme.read_text(), blocks),
        citation: re.sub(r"^repository-code:.*$", repository, citation.read_text(), flags=re.MULTILINE),
    }
    stale = [path for path, text in wanted.items() if path.read_text() != text]
    if "--check" in sys.argv[1:]:
        sys.exit("".join(f"{path.name} is out of date: run `python tools/readme.py`\n" for path in stale) or 0)
    for path in stale:
        path.write_text(wanted[path])
        print(f"{path.name} rewritten")


if __name__ == "__main__":
    main()
