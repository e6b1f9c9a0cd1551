# The front door. `make help` lists every target.
#
# Variables:
#   PROFILE=smoke|cpu|paper   size of the experiments (default smoke; of what only shows records, cpu)
#   JOBS=N                    processes at once (default: one a core; one training on a GPU)
#   DEVICE=auto|cpu|cuda      where to train
#   ARGS="..."                further arguments of `paper_repro sweep`, e.g. ARGS="--methods mest"
#   PAPER_REPRO_DATA=folder   where the data sets are (environment)
#   PYTHON=... VENV=          use an existing interpreter and install nothing
PYTHON ?= python3
VENV ?= .venv
PROFILE ?= smoke
JOBS ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1)
DEVICE ?= auto
ARGS ?=
# Of what shows records and trains nothing: smoke's are no evidence.
SHOWN := $(if $(filter file,$(origin PROFILE)),cpu,$(PROFILE))
# Only where it was asked for: sweep knows best how many suit the device.
PROCESSES := $(if $(filter-out file undefined,$(origin JOBS)),--jobs $(JOBS))

ifeq ($(strip $(VENV)),)
RUN := $(PYTHON)
READY :=
else
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
endif

# The paper's tables, in its order; `make tables` makes all of them.
TABLES := table1 tableA1 table2 table3 table4 table5 table6

.DEFAULT_GOAL := help
.PHONY: help setup test-clients tables $(TABLES) flops ablation-sam ablation-ratio ablation-lrr ablation-sweep ablation-rho \
  ablation-released ablation-noise ablation-precision ablation-weight-decay rebuttal-translation ablation-translation-rho \
  ablation-translation-init control pilot surfaces figures report pictures claims claims-study theory bench \
  status test test-all test-native lint format clean

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[A-Za-z0-9-]+:.*## / {printf "  make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Size, processes, device: PROFILE=smoke|cpu|paper JOBS=N DEVICE=auto|cpu|cuda"

setup: $(READY) ## Make .venv with the exact versions of requirements.lock; compile the sparse engine

$(VENV)/.ready: requirements.lock
	@echo "== setting up $(VENV) with the versions of requirements.lock (a minute or two)"
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
	  || { echo "Python 3.11 or 3.12 is needed; name one with PYTHON=..."; exit 2; }
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --progress-bar on -r requirements.lock
	@$(VENV)/bin/python -m paper_repro.engine
	@touch $@

# A table is trained (what is missing of it) and then rendered, also if some of its runs failed.
define sweep
@echo "== $(1), profile $(PROFILE): training what is missing, then rendering"
@$(RUN) -m paper_repro sweep $(1) --profile $(PROFILE) $(PROCESSES) --device $(DEVICE) $(ARGS); \
  status=$$?; [ $$status -le 1 ] || exit $$status; \
  $(RUN) -m paper_repro table $(1) --profile $(PROFILE) && exit $$status
endef

# The same with a measurement of what was trained in between, and a further command at the end.
define measured
@echo "== $(1), profile $(PROFILE): training what is missing, measuring it, then rendering"
@$(RUN) -m paper_repro sweep $(1) --profile $(PROFILE) $(PROCESSES) --device $(DEVICE) $(ARGS); \
  status=$$?; [ $$status -le 1 ] || exit $$status; \
  $(RUN) -m paper_repro measure --table $(1) --profile $(PROFILE) --device $(DEVICE) || status=$$?; \
  [ $$status -le 1 ] || exit $$status; \
  $(RUN) -m paper_repro table $(1) --profile $(PROFILE) && $(RUN) -m $(2) --profile $(PROFILE) \
  && exit $$status
endef

tables: $(TABLES) flops ## All of the paper's tables, one after the other

table1: $(READY) ## Table 1: ResNet-32 on CIFAR-10/100, sparse methods at 90/95/98 %, SGD and S2-SAM
	$(call sweep,$@)

tableA1: $(READY) ## Table A.1: the same with VGG-19, uniform and ERK
	$(call sweep,$@)

table2: $(READY) ## Table 2: ResNet-50 on ImageNet with FLOPs and longer trainings; rebuttals R1, R7
	$(call sweep,$@)

table3: $(READY) ## Table 3: structured sparsity, CHEX and Chase, and the compacted networks
	$(call sweep,$@)

table4: $(READY) ## Table 4: throughput and accuracy at 90 % with SGD, SAM and S2-SAM
	$(call sweep,$@)

table5: $(READY) ## Table 5: accuracy under 19 corruptions at 80 % (CIFAR-10-C, generated)
	$(call measured,$@,paper_repro table table5-types)

table6: $(READY) ## Table 6 and rebuttal R2: dense training of six networks, SGD, S2-SAM and SAM
	$(call sweep,$@)

flops: $(READY) ## RigL's published FLOPs and sizes of ResNet-50, recounted (trains nothing)
	@$(RUN) -m paper_repro table $@ --profile $(PROFILE)

ablation-sam: $(READY) ## SGD, S2-SAM, SAM and the rivals at 90 %: accuracy, gradients, images/s, memory
	$(call sweep,$@)

ablation-ratio: $(READY) ## Rebuttal R4: lottery tickets pruned by 20, 30 and 40 % a round
	$(call sweep,$@)

ablation-lrr: $(READY) ## Rebuttal R3: learning-rate rewinding
	$(call sweep,$@)

ablation-sweep: $(READY) ## Rebuttal R6: MEST(EM) from dense to 98 %
	$(call sweep,$@)

ablation-rho: $(READY) ## S2-SAM's radius over two decades
	$(call sweep,$@)

ablation-released: $(READY) ## How much of the gain each deviation of the released code explains
	$(call sweep,$@)

ablation-noise: $(READY) ## SGD, SAM and S2-SAM where 0 to 60 % of the training labels are wrong
	$(call sweep,$@)

ablation-precision: $(READY) ## SGD, SAM and S2-SAM in float32, tf32 and bfloat16
	$(call sweep,$@)

ablation-weight-decay: $(READY) ## Whose gain: {SGD, S2-SAM} x {weight decay 1e-4, 5e-4} at 98 and 95 %
	$(call sweep,$@)

pilot: $(READY) ## The beds that the cpu profile was chosen from (PROFILE=cpu)
	$(call sweep,$@)

rebuttal-translation: $(READY) ## Rebuttal R5: a Transformer translates, dense and at 80/90 %, SacreBLEU
	$(call sweep,$@)

ablation-translation-rho: $(READY) ## S2-SAM's radius around Adam, chosen on validation pairs
	$(call sweep,$@)

ablation-translation-init: $(READY) ## A Transformer's initial weights: Xavier's, depth-scaled
	$(call sweep,$@)

control: $(READY) ## Positive control: does SAM beat SGD at this size at all?
	$(call sweep,$@)

surfaces: $(READY) ## The networks of Figures 1 and 3: roughness, sharpness and curvature
	$(call measured,$@,tables.figures surfaces)

figures: $(READY) ## Figures 1 and 3 and the plots of all records (measures what is trained here; trains nothing)
	@echo "== figures, profile $(SHOWN): measuring what is trained here, then drawing"
	@$(RUN) -m paper_repro measure --table surfaces --where-trained --profile $(SHOWN) --device $(DEVICE)
	@$(RUN) -m paper_repro table surfaces --profile $(SHOWN)
	@$(RUN) -m tables.figures --profile $(SHOWN)

report: $(READY) ## One HTML page of all that the records say, and a PDF where a browser is (trains nothing)
	@$(RUN) -m tables.report --profile $(SHOWN)

pictures: $(READY) ## The README's pictures, docs/*.svg and *.png, from the records
	@$(RUN) -m tables.pictures --profile $(SHOWN)

claims: $(READY) ## The paper's claims and what the records so far say of each (trains nothing)
	@$(RUN) -m paper_repro table $@ --profile $(SHOWN)

claims-study: $(READY) ## How often the claims' rules err, on simulated records (a minute; trains nothing)
	@$(RUN) -m tables.inference $(ARGS)

theory: $(READY) ## Check the paper's statements and proofs; rewrites theory/report.md (3 minutes; FAST=1: one, theory/out-fast)
	@echo "== checking the theory"
	@$(RUN) -m theory $(if $(FAST),--fast)

bench: $(READY) ## Time and memory: floor, step, loop (ARGS="--quick --out x.json": does it run?)
	@$(RUN) -m benchmarks $(ARGS)

status: $(READY) ## Which records are there, which runs are under way
	@$(RUN) -m paper_repro status

test: $(READY) ## The tests (6 minutes on 2 cores)
	@echo "== testing on $(JOBS) processes"
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n $(JOBS)

test-all: $(READY) ## The tests, the slow ones too
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n $(JOBS) -m "slow or not slow"

# An environment of its own on top of the other, so that torch stays as it is.
CLIENTS ?= .venv-clients

test-clients: $(CLIENTS)/.ready ## The recipes, in Lightning, transformers, accelerate and timm
	@OMP_NUM_THREADS=1 PYTHONPATH=$(CURDIR) $(CLIENTS)/bin/python -m pytest -q -m "slow or not slow" tests/clients

$(CLIENTS)/.ready: pyproject.toml $(READY)
	@echo "== setting up $(CLIENTS) with the libraries of the extra [clients]"
	@rm -rf $(CLIENTS) && $(RUN) -m venv --without-pip $(CLIENTS)
	@$(RUN) -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$($(CLIENTS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"
	@$(CLIENTS)/bin/python -m pip freeze | grep -iE '^(torch|torchvision|numpy|pandas)==' > $(CLIENTS)/keep.txt
	@$(CLIENTS)/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["clients"], sep="\n")' > $(CLIENTS)/wanted.txt
	@$(CLIENTS)/bin/python -m pip install --quiet -c $(CLIENTS)/keep.txt -r $(CLIENTS)/wanted.txt
	@touch $@

test-native: $(READY) ## The sparse engine's kernels under address and undefined-behaviour sanitizers
	@PYTHONPATH=$(CURDIR) $(RUN) tests/engine/sanitize.py

lint: $(READY) ## ruff and mypy
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

format: $(READY) ## Let ruff format the code
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

clean: ## Remove the virtual environment and caches (runs and results stay)
	rm -rf .venv .venv-clients .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
