PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --quiet
# two processes of one thread each; ARGS="-n 0 ..." is one process, where print and pdb work
PYTEST  = OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/pytest -n 2 --dist loadscope $(ARGS)

# stages call `onestep` by name
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1
export GX_ANALYTICS_ENABLED := false
# threads that wait spin briefly, then sleep, as onestep.core.environment has it (benchmarks/waiting.py)
ifeq ($(OMP_WAIT_POLICY)$(GOMP_SPINCOUNT),)
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 10000
endif
# a user without an entry in the passwd file, as in a container, has neither a name nor a home
export USER ?= uid-$(shell id -u)
export LOGNAME ?= $(USER)
ifeq ($(shell test -w "$$HOME" && echo yes),)
export HOME := $(CURDIR)/.onestep/home
endif
# a virtual environment holds its own path and its Python: one that was moved, or whose Python has changed, is made anew
MADE_OF = $(CURDIR) $(shell $(BIN)/python -c 'import sys; print(*sys.version_info[:2], sep=".")' 2>/dev/null)
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(strip $(MADE_OF)))
$(STAMP): FORCE
endif
# of two setups at once the second waits, and finds nothing to do
ALONE := $(shell command -v flock >/dev/null && echo flock .onestep/setup.lock)

.DEFAULT_GOAL := help
.PHONY: FORCE help setup demo full long results server doctor test test-slow lint typecheck clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## the virtual environment, at the versions of constraints.txt

	@mkdir -p .onestep && $(ALONE) $(MAKE) --silent $(STAMP)

# the pip that comes with Python 3.11 needs minutes to resolve what a newer one resolves in seconds
$(STAMP): pyproject.toml constraints.txt
	@case '$(CURDIR)' in *:*) echo "'$(CURDIR)' has a colon, which separates folders in PATH: move the checkout" >&2; exit 1;; esac
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed: install Python 3.11 or newer, or run make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: run make PYTHON=python3.11 (or newer)" >&2; exit 1; }
	@test ! -e $(STAMP) || { made=$$(cat $(STAMP)); case '$(strip $(MADE_OF)) ' in "$${made:-none} "*) ;; *) rm -rf $(VENV);; esac; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { echo "$(PYTHON) cannot make virtual environments: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }
	@echo "installing the versions of constraints.txt into $(VENV)"
	@$(INSTALL) 'pip>=26' && $(INSTALL) --constraint constraints.txt --editable '.[dev]' || { echo "setup did not finish: pip says why above. make setup goes on; make clean setup begins anew, make PYTHON=python3.11 with another Python" >&2; exit 1; }
	@echo $(CURDIR) $$($(BIN)/python -c 'import sys; print(*sys.version_info[:2], sep=".")') > $@

demo: setup ## footage to a one-step model, with pictures and numbers
	@$(BIN)/python -m onestep.vcs.rwlock; since=$$(date +%s); $(BIN)/dvc repro && echo && $(BIN)/onestep times --since $$since && echo && $(BIN)/onestep keygen --if-missing && $(BIN)/onestep record
	@echo
	@echo "verdict      reports/verdict.json"
	@echo "report       reports/report.html (videos side by side, open it in a browser)"
	@echo "numbers      reports/metrics.json, reports/latency.json"
	@echo "model        models/onestep (a stock diffusers pipeline)"
	@echo "its record   $(BIN)/onestep lineage show onestep (docs/audit.md is the auditor's walk)"
	@echo "try it       $(BIN)/onestep generate 'a small red circle bouncing on teal' --model models/onestep --out clip.mp4"

full: ## the demo's model on 512 captions, as a DVC experiment: profiles/full.yaml over params.yaml
long: ## a deeper student, trained for an hour and more, on 512 captions: profiles/long.yaml over params.yaml
full long: setup
	@$(BIN)/python -m onestep.vcs.rwlock; since=$$(date +%s); $(BIN)/dvc exp run --name $@ $$($(BIN)/onestep profile profiles/$@.yaml) && echo && $(BIN)/onestep times --since $$since

results: setup ## every table and plot of README and docs, from results/ and the working copy's demo
	$(BIN)/python benchmarks/runs.py add demo --command 'make demo'
	test ! -e reports/samples.gif || cp reports/samples.gif docs/images/demo.gif
	$(BIN)/python benchmarks/tables.py
	$(BIN)/python benchmarks/ablations.py --report
	$(BIN)/python benchmarks/collapse.py --report
	$(BIN)/python benchmarks/nightly_gate.py --report
	$(BIN)/python benchmarks/candidates.py --table
	$(BIN)/python benchmarks/tamperings.py --report

server: setup ## Prefect on this machine: server, pools, limits, automation, deployments, workers; says where its page is
	$(BIN)/python -m flows.server $(ARGS)

doctor: setup ## is this machine ready for a night? names the remedy for what is not
	@$(BIN)/onestep doctor

test: setup ## the tests, under ten minutes
	$(PYTEST)

test-slow: setup ## the proofs that take minutes; none collected is fine
	$(PYTEST) -m slow || test $$? -eq 5

lint: setup ## ruff, formatting, types, and the code that dvc.yaml names
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/onestep graph sync --check
	@$(MAKE) --no-print-directory typecheck

typecheck: setup ## mypy
	$(BIN)/mypy

clean: ## remove the environment and every cache that tools leave, but no data
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist src/*.egg-info
	find src tests flows benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
