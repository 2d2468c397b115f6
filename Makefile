# make run    set everything up and open the window on the built-in demo corpus
# make test   set everything up, then all checks and all tests
# make bench  measure what the README and docs promise; prints JSON lines
# make soak   the long tests that make test leaves out
# make dist   the wheel and the source archive, in dist/
# make mutants  change the modules that hold the promises, and see whether the tests notice (a part of soak)
# make lint   the checks alone        make format  format and mend what can be mended
# make clean  remove the environment and everything that was built
#
# PYTHON=python3.12 make run          takes another Python (3.11 or newer)
# make run TORCH_INDEX=ADDRESS    takes torch's smaller CPU build, from the index that PyTorch's start page names
# make run ARGS="--camera video.mp4"  hands arguments to the program
# On Windows use the pip lines of the README.

PYTHON ?= python3
TORCH_INDEX ?=
ARGS ?=
MUTANTS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := run
.PHONY: run test bench soak mutants dist lint format setup models system-libraries clean

run: setup
	@$(BIN)/python main.py models --fetch --quiet || echo "Going on without the landmark models: training works, the camera preview does not."
	@$(BIN)/python main.py $(ARGS)

test: setup models lint
	@$(BIN)/python main.py system
	SIGNSCOPE_STRICT=1 $(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup models
	@for file in bench/bench_*.py; do $(BIN)/python -m bench.$$(basename $$file .py) || exit 1; done

soak: setup models
	SIGNSCOPE_STRICT=1 $(BIN)/python -m pytest -m soak --timeout 7200
	$(MAKE) mutants

mutants: setup
	$(BIN)/python -m tests.mutation.check $(MUTANTS)

dist: setup
	$(BIN)/python -m hatchling build --clean

setup: $(INSTALLED) system-libraries

models: setup
	@$(BIN)/python main.py models --fetch --quiet

# Without the libraries a window cannot open and MediaPipe cannot load. Where apt-get may install them
# (root on Debian or Ubuntu: a container, a CI machine) they are installed; what is still missing then is
# named by the program when it needs it, and by `make test` before the tests.
system-libraries: $(INSTALLED)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then $(BIN)/python main.py system --install || true; fi

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "SignScope needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) dist mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .benchmarks
	find app bench core signscope tests -name __pycache__ -type d -prune -exec rm -rf {} +
