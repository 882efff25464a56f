# Everything starts from here: `make` alone lists what there is.

VENV := .venv
PYTHON_IN_VENV := $(VENV)/bin/python
PIP := $(PYTHON_IN_VENV) -m pip --disable-pip-version-check --quiet
EXTRAS := encoder,airflow,report,dev

# The first of these that runs and is new enough; name another with `make PYTHON=/path/to/python setup`.
FITS := 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c $(FITS) 2>/dev/null && echo $$python && break; done)

.DEFAULT_GOAL := help
.PHONY: $(shell awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {print $$1}' $(MAKEFILE_LIST))

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.core $(VENV)/.provisioned ## Make .venv with all it takes to mine: packages, Java, Delta jars
	@echo "Ready: $(VENV)/bin/selflearn --help"

demo: setup ## Set up, then mine a simulated assistant's log from start to end
	$(VENV)/bin/selflearn demo

doctor: setup ## Check the machine and the installation, with a real Spark session
	$(VENV)/bin/selflearn doctor --spark

test: $(VENV)/.all $(VENV)/.provisioned ## Set up with every extra and run every test
	@# Two processes with as many threads each as there are processors wait for one another most of the time.
	OMP_NUM_THREADS=1 $(PYTHON_IN_VENV) -m pytest --numprocesses 2 --dist loadfile

test-quick: $(VENV)/.all ## Run the tests that need no JVM
	$(PYTHON_IN_VENV) -m pytest -m "not spark and not cluster"

test-cluster: $(VENV)/.all $(VENV)/.provisioned ## Run the tests that start a Spark cluster and Airflow
	$(PYTHON_IN_VENV) -m pytest -m cluster

cluster-start: $(VENV)/.all $(VENV)/.provisioned ## Start Spark and Airflow on this machine: make cluster-start SETTINGS=file
	$(PYTHON_IN_VENV) infra/local/cluster.py start --settings "$(SETTINGS)"

cluster-stop: ## Stop them
	$(PYTHON_IN_VENV) infra/local/cluster.py stop

lint: $(VENV)/.all ## Look for mistakes and for lines not in the common format
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

format: $(VENV)/.all ## Bring all lines into the common format
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

types: $(VENV)/.all ## Check the types
	$(VENV)/bin/mypy

lock: $(PYTHON_IN_VENV) ## Resolve requirements.lock anew from pyproject.toml, for every platform
	$(PIP) install uv
	$(VENV)/bin/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade --quiet \
		--no-annotate --no-emit-index-url --custom-compile-command "make lock" --output-file requirements.lock

bench-scale: setup ## Measure speed and memory on growing logs
	$(PYTHON_IN_VENV) benchmarks/scale.py --out build/benchmarks/scale

bench-increment: setup ## Measure what one more day costs after a week and after three months
	$(PYTHON_IN_VENV) benchmarks/increment.py --out build/benchmarks/increment

bench-dstc2: setup ## Measure quality on real conversations: make bench-dstc2 TRAIN=folder TEST=folder GOLD=200
	@test -n "$(TRAIN)" -a -n "$(TEST)" || { echo "name both folders: make bench-dstc2 TRAIN=folder TEST=folder" >&2; exit 2; }
	$(PYTHON_IN_VENV) benchmarks/dstc2.py --train "$(TRAIN)" --test "$(TEST)" --gold "$(or $(GOLD),0)" \
		--out build/benchmarks/dstc2

bench-retrain: setup ## Measure retraining without gold: make bench-retrain TRAIN=folder TEST=folder
	@test -n "$(TRAIN)" -a -n "$(TEST)" || { echo "name both: make bench-retrain TRAIN=folder TEST=folder" >&2; exit 2; }
	$(PYTHON_IN_VENV) benchmarks/retrain.py --train "$(TRAIN)" --test "$(TEST)" --out build/benchmarks/retrain

bench-projection: setup ## Measure how well slot values are put on misheard words: make bench-projection DATA=folder
	@test -n "$(DATA)" || { echo "name the folder: make bench-projection DATA=folder" >&2; exit 2; }
	$(PYTHON_IN_VENV) benchmarks/projection.py --data "$(DATA)" --out build/benchmarks/projection

bench-meaning: $(VENV)/.all ## Measure how well slot values are put on words that mean them: make bench-meaning DATA=folder
	@test -n "$(DATA)" || { echo "name the folder: make bench-meaning DATA=folder" >&2; exit 2; }
	$(PYTHON_IN_VENV) benchmarks/projection_meaning.py --data "$(DATA)" --out build/benchmarks/projection_meaning

bench-star: setup ## Measure false alarms on typed dialogues: make bench-star DATA=folder
	@test -n "$(DATA)" || { echo "name the folder: make bench-star DATA=folder" >&2; exit 2; }
	$(PYTHON_IN_VENV) benchmarks/star.py --data "$(DATA)" --out build/benchmarks/star

bench-variants: $(VENV)/.all ## Measure p_same_goal on real sentences and recordings: make bench-variants DATA=folder
	@test -n "$(DATA)" || { echo "name the folder: make bench-variants DATA=folder" >&2; exit 2; }
	$(PYTHON_IN_VENV) benchmarks/variants.py --data "$(DATA)" --train --out build/benchmarks/variants

bench-detection: $(VENV)/.core ## Measure candidate pairs per second, memory, and what a bot costs
	$(PYTHON_IN_VENV) benchmarks/detection.py --out build/benchmarks/detection

bench-peer: $(VENV)/.all ## Measure our EM beside Splink's, on the same pairs
	$(PYTHON_IN_VENV) benchmarks/peer.py --out build/benchmarks/peer

bench-languages: setup ## Measure quality in ten simulated languages
	$(PYTHON_IN_VENV) benchmarks/languages.py --out build/benchmarks/languages

bench-neighbours: $(VENV)/.all $(VENV)/.provisioned ## Measure recall and speed of near pairs: make bench-neighbours DATA=folder
	@test -n "$(DATA)" || { echo "name the folder: make bench-neighbours DATA=folder" >&2; exit 2; }
	$(PYTHON_IN_VENV) benchmarks/neighbours.py --data "$(DATA)" --out build/benchmarks/neighbours

bench-encoder: $(VENV)/.all ## Measure encoders on people's sentences: make bench-encoder DATA=folder
	@test -n "$(DATA)" || { echo "name the folder: make bench-encoder DATA=folder" >&2; exit 2; }
	$(PYTHON_IN_VENV) benchmarks/encoder.py --data "$(DATA)" --out build/benchmarks/encoder

bench-chain: $(VENV)/.core ## Measure components and chain of ten million links
	$(PYTHON_IN_VENV) benchmarks/chain.py --out build/benchmarks/chain

bench-rewrites: setup ## Measure wins and losses of rewrites on a simulated month
	$(PYTHON_IN_VENV) benchmarks/rewrites.py --out build/benchmarks/rewrites

bench-arms: $(VENV)/.core ## Measure what the two arms of live rewrites are worth over ten cycles
	$(PYTHON_IN_VENV) benchmarks/arms.py --out build/benchmarks/arms

bench-context: setup ## Measure what the context of words is worth: make bench-context TRAIN=folder
	$(PYTHON_IN_VENV) benchmarks/context.py "$(TRAIN)" --out build/benchmarks/context

bench-collusion: setup ## Measure what colluding users can plant in a simulated month
	$(PYTHON_IN_VENV) benchmarks/collusion.py --out build/benchmarks/collusion

bench-pool: setup ## Measure what each source of the goal posterior is worth: make bench-pool TRAIN=folder
	$(PYTHON_IN_VENV) benchmarks/pool.py $(if $(TRAIN),--dstc2 "$(TRAIN)") --out build/benchmarks/pool

bench-loop: $(VENV)/.all $(VENV)/.provisioned ## Measure the closed loop: make bench-loop DATA=folder [POOL=hwu64 LOOP="--seeds 5"]
	$(PYTHON_IN_VENV) benchmarks/loop.py $(if $(DATA),--data "$(DATA)" --pool $(or $(POOL),hwu64)) $(LOOP) \
		--out build/benchmarks/loop

clean: ## Remove .venv and everything that was made
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache

$(PYTHON_IN_VENV):
	@test -n "$(PYTHON)" || { echo "selflearn needs Python 3.11, 3.12 or 3.13 and found none on PATH;" \
		"install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 5; }
	@$(PYTHON) -c $(FITS) 2>/dev/null || { echo "$(PYTHON) is no Python 3.11, 3.12 or 3.13;" \
		"name one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 5; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) cannot make environments: on Debian and Ubuntu" \
		"\`sudo apt-get install python3-venv\` mends that" >&2; exit 5; }

$(VENV)/.core: pyproject.toml requirements.lock | $(PYTHON_IN_VENV)
	$(PIP) install --constraint requirements.lock --editable .
	@touch $@

$(VENV)/.all: $(VENV)/.core
	$(PIP) install --constraint requirements.lock --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.provisioned: selflearn/lakehouse/ivy/ivy.xml $(VENV)/.core
	$(PYTHON_IN_VENV) -m selflearn.provision
	@touch $@
