# Tessera: `make demo` to see it work, `make test` to check it.
# Everything lives in $(VENV), installed from the hashed locks with plain pip.

PYTHON ?= python3
VENV ?= .venv
# Processes the tests run in; each needs about 2 GB of memory.
WORKERS ?= 2
# For `make install`: cuda or tpu.
EXTRA ?=
# Passed on to the command or to pytest.
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -q
COMPILE := uv pip compile --quiet --universal --generate-hashes \
  --python-version 3.11 --no-header --no-annotate --no-emit-index-url

.PHONY: help install install-dev demo demo-colorize demo-vqgan demo-sundae \
  demo-prior compare-first-stages compare-priors compare-sundae test test-slow \
  lint lock clean

help:  ## Say what can be made.
	@grep -hE '^[a-z-]+:.*##' Makefile | \
	  awk -F ':.*## ' '{ printf "  make %-20s %s\n", $$1, $$2 }'

install: $(VENV)/runtime.stamp $(EXTRA:%=$(VENV)/extra-%.stamp)  ## Make $(VENV) with the pinned dependencies (EXTRA=cuda or tpu).

install-dev: $(VENV)/dev.stamp  ## The same with the tools of the tests.

demo: install  ## Train, sample and evaluate a small DCTransformer.
	$(BIN)/python -m launch.demo $(ARGS)

demo-colorize: install  ## The same with a luma-first model that colours.
	$(BIN)/python -m launch.demo --colorize $(ARGS)

demo-vqgan: install  ## Learn a codebook, then sharpen it with a discriminator.
	$(BIN)/python -m launch.demo_vqgan $(ARGS)

demo-sundae: install  ## Denoise codes in a few steps: sample and inpaint.
	$(BIN)/python -m launch.demo_sundae $(ARGS)

demo-prior: install  ## A prior over codes by class and by label map.
	$(BIN)/python -m launch.demo_prior $(ARGS)

compare-first-stages: install  ## VQVAE, VQGAN, quantizers, beta: side by side.
	$(BIN)/python -m launch.compare_first_stages $(ARGS)

compare-priors: install  ## Transformer, PixelSNAIL and pixels: the NLL table.
	$(BIN)/python -m launch.compare_priors $(ARGS)

compare-sundae: install  ## Measure what parts of SUNDAE are worth.
	$(BIN)/python -m launch.compare_sundae $(ARGS)

test: install-dev  ## The tests, below 15 minutes on two cores.
	$(PYTEST) $(ARGS)

test-slow: install-dev  ## The tests that take longer.
	$(PYTEST) -m slow $(ARGS)

lint: install-dev  ## Formatting, lint and cheap types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

lock:  ## Resolve the locks again; needs uv.
	@command -v uv > /dev/null || \
	  { echo "make lock needs uv: python3 -m pip install uv" >&2; exit 1; }
	$(COMPILE) --upgrade pyproject.toml -o requirements.txt
	$(COMPILE) --upgrade pyproject.toml --extra dev -c requirements.txt \
	  -o requirements-dev.txt
	echo "setuptools" | $(COMPILE) - -c requirements.txt \
	  -o requirements-build.txt

clean:  ## Remove $(VENV) and what the tools left; runs/ stays.
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment. An interrupted installation is continued by the next make.

$(VENV)/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  2> /dev/null || { \
	  echo "Tessera needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is" \
	    "`$(PYTHON) -c 'import platform; print(platform.python_version())' \
	    2> /dev/null || echo not there`." \
	    "Try: make $(firstword $(MAKECMDGOALS)) PYTHON=python3.12" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
	  echo "$(PYTHON) lacks the venv module. Try:" \
	    "apt-get install python3-venv" >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/runtime.stamp: $(VENV)/python.stamp requirements.txt \
    requirements-build.txt pyproject.toml
	$(PIP) install -q --require-hashes -r requirements-build.txt
	$(PIP) install -q --require-hashes --no-build-isolation -r requirements.txt
	$(PIP) install -q --no-build-isolation --no-deps -e .
	@touch $@

# Versions that the lock holds are kept: the extra adds accelerators to them.
$(VENV)/extra-%.stamp: $(VENV)/runtime.stamp
	$(PIP) install -q --no-build-isolation -e '.[$*]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/runtime.stamp requirements-dev.txt
	$(PIP) install -q --require-hashes --no-build-isolation \
	  -r requirements-dev.txt
	@touch $@
