# One command each; the first call of any of them makes .venv and installs everything into it.
#
#   make demo    a whole fleet on this machine, a minute or two
#   make test    the whole test suite, in a process more than there are processors; PYTEST_FLAGS="-n 0" for one
#   make lint    formatting, lint, types, import rules
#
#   make example NAME=weather   one of the whole jobs below examples/; QUICK=1 for a short form of it
#
#   make paper-table    repeats the paper's table, up to two hours on 2 cores; writes docs/accuracy.md
#   make comparison     schemes at equal cost, hours on 2 cores (it says how many); writes docs/comparison-tables.md
#
# On x86-64 the registry's torch is the CUDA build (about 5 GB). Where that is too much, name PyTorch's CPU
# index (see pytorch.org):   make demo TORCH_INDEX_URL=...

ifeq ($(origin PYTHON), undefined)
PYTHON := $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	env -u PYTHONHOME -u PYTHONPATH $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	echo $$python && break; done)
endif
# What a shell is set up for, such as another program's packages (ROS) or installing for one user, is not for .venv.
unexport PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX
export PIP_USER = 0
TORCH_INDEX_URL ?=
PYTEST_FLAGS ?=
# A test often waits for a broker or a deadline: one process more than there are processors keeps all of them busy.
# Every process holds torch and at times a whole fleet, so there is a limit. Tests of one file share what they set up.
TEST_PROCESSES ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 7 ] && echo 8 || echo $$((n + 1)))
PARALLEL = -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
DEMO_FLAGS ?=

BIN := .venv/bin
READY := .venv/.ready

# Commands in a virtual environment name the place where it was made, and run what lies there.
MADE_IN := $(shell cat $(READY) 2>/dev/null)
ifeq ($(filter clean help,$(MAKECMDGOALS)),)
ifneq ("$(or $(MADE_IN),$(CURDIR))","$(CURDIR)")
$(error .venv was made in $(MADE_IN), and this is $(CURDIR): make clean, and then this again)
endif
endif

.PHONY: help setup demo example test lint format paper-table comparison clean

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

setup: $(READY)

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed; name one with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "error: $(PYTHON) cannot make virtual environments; on Debian: apt install python3-venv" >&2; exit 1; }
	@test ! -e .venv -o -w .venv || \
		{ echo "error: .venv belongs to another user, as after sudo make: sudo make clean, and then this again" >&2; exit 1; }
	@echo "installing into .venv; the first time takes some minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(BIN)/python -m ensurepip >/dev/null  # uv makes .venv without pip
	$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --help | grep -q -e --group || \
		{ echo "error: pip 25.1 or newer is needed, and the package index, or the folder in its place, has none" >&2; exit 1; }
	$(if $(TORCH_INDEX_URL),$(BIN)/python -m pip install --quiet --index-url $(TORCH_INDEX_URL) torch torchvision)
	$(BIN)/python -m pip install --quiet --editable '.[all]' --group dev
	@echo "$(CURDIR)" > $@

demo: $(READY)
	$(BIN)/fedlp demo $(DEMO_FLAGS)

# What an example reads are other projects' data: their packages, without what these depend on.
example: $(READY)
	@test -n "$(NAME)" -a -f "examples/$(NAME)/fleet.toml" || { echo "error: name an example with NAME=, one of" \
		$(patsubst examples/%/fleet.toml,%,$(wildcard examples/*/fleet.toml)) >&2; exit 1; }
	@test ! -f examples/$(NAME)/requirements.txt || \
		$(BIN)/python -m pip install -qqq --retries 1 --no-deps --requirement examples/$(NAME)/requirements.txt || \
		{ echo "error: pip could not install what examples/$(NAME)/requirements.txt names; without a network, put the" \
		"wheels into a folder and set PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER" >&2; exit 1; }
	@$(BIN)/python examples/run.py $(NAME) $(if $(filter-out 0 no,$(QUICK)),--quick)

# The tests use a real Mosquitto and real pictures; where these are missing they are installed, or named.
test: $(READY)
	@.ci/system-packages
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_FLAGS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Both keep what is finished below runs/, and go on there when they are started again.
paper-table: $(READY)
	$(BIN)/python -m benchmarks.paper_table

comparison: $(READY)
	$(BIN)/python -m benchmarks.heterogeneous

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
