# Two commands on a bare machine: `make lab` opens the course, `make test` runs the whole gate.

.PHONY: help lab explorer test lint unit notebooks browser chapters parity bench kernels-matrix lock clean setup \
	setup-test chromium
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check --constraint requirements.lock
PYTEST := OMP_NUM_THREADS=1 $(PY) -P -m pytest

# What is installed follows from these files, the packages in the tree and where the tree is. The checksum of all three
# names the stamps, so a second run does nothing, and a changed pin or a new package installs again.
KEY := $(shell (cat pyproject.toml requirements.lock jupyter/*.json; pwd; \
	ls -d minimoe/__init__.py */minimoe_*/__init__.py) 2>/dev/null | cksum | cut -d' ' -f1)
HAS_LAB := $(VENV)/lab-$(KEY)
HAS_TEST := $(VENV)/test-$(KEY)

help:
	@echo "make lab        open the course in JupyterLab       ARGS=\"--no-browser --port 8890\" is passed on"
	@echo "make explorer   all explorers on one page, on any model (ARGS as above)"
	@echo "make test       the whole gate: lint, unit, notebooks, browser"
	@echo "make lint | unit | notebooks | browser              one part of it"
	@echo "make chapters   rebuild the notebooks from chapters/*.py"
	@echo "make parity     the table of differences from transformers"
	@echo "make bench      the measurements beside transformers"
	@echo "make kernels-matrix    compile and interpret the kernels with the oldest and the newest Triton"
	@echo "make lock       write requirements.lock anew"
	@echo "TORCH_ARGS=\"...\" is passed to pip when PyTorch is installed (its CPU index, for example)."

# --- set-up -----------------------------------------------------------------------------------------------------------

setup: $(HAS_LAB)
setup-test: $(HAS_TEST)

# PyTorch comes first and alone: whichever build TORCH_ARGS names is then what every later step finds installed. The
# settings switch off JupyterLab's news pop-up, and the buttons and file handling that some test tools add to it.
$(HAS_LAB):
	@$(PY) -c "" 2>/dev/null || sh tools/venv.sh $(VENV) "$(PYTHON)"
	@echo "Installing PyTorch, then JupyterLab and the course into $(VENV): a few minutes the first time."
	@$(PIP) --quiet setuptools
	@$(PIP) --quiet --no-deps "$$(grep '^torch==' requirements.lock)" $(TORCH_ARGS)
	@$(PIP) --quiet --no-build-isolation --editable ".[lab]"
	@mkdir -p $(VENV)/share/jupyter/lab/settings $(VENV)/etc/jupyter/labconfig
	@cp jupyter/overrides.json $(VENV)/share/jupyter/lab/settings/
	@cp jupyter/jupyter_server_config.json $(VENV)/etc/jupyter/
	@cp jupyter/page_config.json $(VENV)/etc/jupyter/labconfig/
	@rm -f $(VENV)/lab-* && touch $@

$(HAS_TEST): $(HAS_LAB)
	@echo "Installing the test tools."
	@$(PIP) --quiet --no-build-isolation --editable ".[test]"
	@rm -f $(VENV)/test-* && touch $@

chromium: $(HAS_TEST)
	@sh tools/chromium.sh $(PY) >/dev/null

# --- the course -------------------------------------------------------------------------------------------------------

ROOT_ARGS := $(if $(filter 0,$(shell id -u)),--allow-root)

# A file given by name would make its folder the root, and the rest of the course invisible; the address does not.
lab: $(HAS_LAB)
	@test -f chapters/00_start.ipynb || { echo "chapters/00_start.ipynb is missing: make chapters ARGS=00"; exit 1; }
	$(PY) -m jupyterlab --LabApp.default_url=/lab/tree/chapters/00_start.ipynb $(ROOT_ARGS) $(ARGS)

# jupyter/voila.json names what the page needs: a template that asks nothing of another machine, and two extensions.
explorer: export JUPYTER_PATH = $(CURDIR)/jupyter
explorer: export JUPYTER_CONFIG_PATH = $(CURDIR)/jupyter
explorer: $(HAS_LAB)
	OMP_NUM_THREADS=1 $(PY) -m voila chapters/explorer.ipynb $(ARGS)

chapters: chromium
	BROWSER_PATH="$$(sh tools/chromium.sh $(PY))" OMP_NUM_THREADS=1 $(PY) -m minimoe_course.build $(ARGS)
	@$(PY) tools/readme.py

parity: $(HAS_TEST)
	OMP_NUM_THREADS=1 $(PY) tests/minimoe/parity/table.py

bench: $(HAS_TEST)
	$(PY) bench/run.py $(or $(ARGS),all)

# The lock's Triton is part of the gate. These two are downloads of some 200 MB each, kept in the environment.
kernels-matrix: $(HAS_TEST)
	@for version in 3.6.0 3.9.0; do \
		test -d $(VENV)/triton-$$version || \
			$(PY) -m pip install --quiet --no-deps --target $(VENV)/triton-$$version triton==$$version; \
		PYTHONPATH=$(VENV)/triton-$$version $(PY) -m minimoe_kernels.resources --check || exit 1; \
		PYTHONPATH=$(VENV)/triton-$$version $(PY) -W ignore -m minimoe_kernels.interpreter || exit 1; \
	done

# --- the gate ---------------------------------------------------------------------------------------------------------

# Every part runs even when an earlier one failed; the exit status says whether any did.
test: chromium
	@failed=; for part in lint unit notebooks browser; do \
		echo "== $$part"; $(MAKE) --no-print-directory $$part || failed="$$failed $$part"; \
	done; \
	if [ -n "$$failed" ]; then echo "FAILED:$$failed"; exit 1; fi

lint: $(HAS_TEST)
	@$(PY) -m ruff check --output-format concise .

unit: chromium
	@BROWSER_PATH="$$(sh tools/chromium.sh $(PY))" $(PYTEST) -n 2 --dist loadfile tests --ignore=tests/browser $(ARGS)

notebooks: $(HAS_TEST)
	@$(PYTEST) --nbval-lax --nbval-current-env --nbval-cell-timeout=120 -n 2 --dist loadfile --timeout=0 chapters $(ARGS)

browser: chromium
	@BROWSER_PATH="$$(sh tools/chromium.sh $(PY))" $(PYTEST) -n 2 --dist worksteal tests/browser $(ARGS)

lock: | $(VENV)
	$(PY) tools/lock.py

$(VENV):
	@sh tools/venv.sh $(VENV) "$(PYTHON)"

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
