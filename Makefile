# `make demo` and `make test` need Python >= 3.11, make and a package index; PYTHON=python3.12 chooses another Python, and
# TESTS=tests/models some of the tests.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test slow nightly check bench lock clean

demo: $(VENV)/.ready
	$(BIN)/python -m research train experiments/digits.py --watch

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 20 $(TESTS)

slow: $(VENV)/.ready
	$(BIN)/python -m pytest -m slow

# The slow tests with all that they need: a real SLURM and network tools from Debian's packages (as root).
nightly: $(VENV)/.ready
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge iproute2 dataset-fashion-mnist
	$(BIN)/python -m pytest -m slow -rs

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python .ci/lines.py

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, this is $$($(PYTHON) --version). Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# Speed, side by side with Keras and PyTorch, which want an environment of their own. Hours; WORKS="mlp gpt" and
# ARGS="--rounds 5" narrow it down.
bench:
	$(MAKE) VENV=.venv-bench .venv-bench/.ready
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	.venv-bench/bin/python -m tests.benchmarks $(WORKS) $(ARGS)

# New pins: the newest versions that pyproject.toml allows, on each Python. Needs both of them.
lock:
	$(PYTHON) .ci/lock.py python3.11 python3.12 > constraints.new && mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) .venv-bench .venv-other build *.egg-info .pytest_cache .ruff_cache
