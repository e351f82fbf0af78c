# `make demo` and `make test` need Python >= 3.11, make and a package index. PYTHON=python3.12 selects another Python;
# TESTS=tests/models runs only these tests.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test slow breaker nightly engines check truth bench lock clean

demo: $(VENV)/.ready
	$(BIN)/python -m research train experiments/digits.py --watch

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 20 $(TESTS)

slow: $(VENV)/.ready
	$(BIN)/python -m pytest -m slow

# Inject faults at random for MINUTES, each time with new seeds, and write the figures to tests/RELIABILITY.md.
MINUTES ?= 60
breaker: $(VENV)/.ready
	$(BIN)/python -m tests.breaker --minutes $(MINUTES) --page tests/RELIABILITY.md

# Install everything that the slow tests need, then run them. Needs root: SLURM and network tools are Debian packages.
nightly: $(VENV)/.ready
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge iproute2 dataset-fashion-mnist \
	  default-jre-headless
	$(BIN)/python -m pytest -m slow -rs
	$(MAKE) engines
	$(MAKE) breaker

# Run the engines of large data for real. Beam needs older packages than constraints.txt, hence another environment.
engines:
	$(PYTHON) -m venv .venv-engines
	.venv-engines/bin/python -m pip install --quiet --disable-pip-version-check --prefer-binary -e '.[beam,spark,ray]' \
	  pytest beartype
	.venv-engines/bin/python -m pytest -m slow -rs tests/data/engines/test_engines.py

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python .ci/lines.py

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is required, found $$($(PYTHON) --version). Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# Regenerate the reference values of third-party libraries; fail if they differ from those in tests/truth.
truth:
	$(PYTHON) -m venv .venv-truth
	.venv-truth/bin/python -m pip install --quiet --disable-pip-version-check numpy
	.venv-truth/bin/python -m tests.truth --packages > .venv-truth/requirements.txt
	.venv-truth/bin/python -m pip install --quiet --disable-pip-version-check -r .venv-truth/requirements.txt
	.venv-truth/bin/python -m tests.truth

# Measure speed against Keras and PyTorch, which need a separate environment. Takes hours; WORKS="mlp gpt" and
# ARGS="--rounds 5" shorten it.
bench:
	$(MAKE) VENV=.venv-bench .venv-bench/.ready
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	.venv-bench/bin/python -m tests.benchmarks $(WORKS) $(ARGS)

# Pin the newest versions that pyproject.toml allows, for each Python. Needs both interpreters.
lock:
	$(PYTHON) .ci/lock.py python3.11 python3.12 > constraints.new && mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) .venv-bench .venv-engines .venv-other .venv-truth build *.egg-info .pytest_cache .ruff_cache
