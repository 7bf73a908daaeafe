# One target per stage, one command per target. `make` lists them.  make STAGE CONFIG=... RUN=... ARGS="key=value ..."
VENV   ?= .venv
PYTHON ?= python3.11
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
RUN    ?= runs/demo
INPUT  ?=
GPUS   ?= 1
ARGS   ?=
# Every stage takes CONFIG=; without it, the demo's.
config  = $(if $(CONFIG),$(CONFIG),$(1))
stage   = $(BIN)/python -m $(1) $(call config,$(2)) run=$(RUN) $(ARGS)
# One process needs no launcher, which would end at a SIGTERM without passing it on.
LAUNCH  = $(if $(HOSTFILE),$(BIN)/deepspeed --hostfile $(HOSTFILE) --no_local_rank --module,$(if $(filter 1,$(GPUS)),$(BIN)/python -m,$(BIN)/deepspeed --log_level warning --num_gpus $(GPUS) --no_local_rank --module))
export PYTHONUNBUFFERED := 1
ifeq ($(wildcard /dev/nvidia0 /dev/kfd),)
export DS_ACCELERATOR ?= cpu
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo base-small data clean-text data-report dedup refine tokenizer tokenizer-report shards verify plan pretrain reshard export generate benchmarks eval contamination elo report doctor bench bench-gpu test test-full lint format samples

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

setup: $(READY) ## make .venv with the pinned versions

$(READY): constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt torch setuptools wheel ninja py-cpuinfo
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $(READY)

demo: $(READY) ## the whole chain on samples/ (or INPUT=folder RUN=runs/mine), from raw pages to report.html
	$(BIN)/python -m mindllm.chain $(call config,configs/chain/demo.yaml) run=$(RUN) input=$(INPUT) num_processes=$(GPUS) $(ARGS)

data: clean-text dedup refine ## raw pages to clean text: clean-text, dedup, refine

clean-text: $(READY) ## extract text, drop low quality
	$(call stage,data_pipeline clean,configs/data/sample.yaml)

data-report: $(READY) ## one HTML page about the data: what was kept and dropped, why, how fast
	$(call stage,data_pipeline report,configs/data/sample.yaml)

dedup: $(READY) ## drop exact and near duplicates
	$(call stage,data_pipeline dedup,configs/data/sample.yaml)

refine: $(READY) ## sensitive content, private data, repetition
	$(call stage,data_pipeline refine,configs/data/sample.yaml)

tokenizer: $(READY) ## train the tokenizer on clean text
	$(call stage,mindllm.tokenizer train,configs/tokenizer/tiny.yaml)

tokenizer-report: $(READY) ## tokenizers side by side: a table and one HTML page
	$(call stage,mindllm.tokenizer report,configs/tokenizer/report.yaml)

shards: $(READY) ## clean text to token shards
	$(call stage,data_pipeline shard,configs/data/sample.yaml)

verify: $(READY) ## read the token shards again, recompute every hash and count
	$(call stage,data_pipeline verify,configs/data/sample.yaml)

base-small: $(READY) ## a small base model of any folder of texts, about 30 minutes on 2 cores (INPUT=folder)
	$(BIN)/python -m mindllm.chain configs/chain/base-small.yaml run=$(if $(filter file,$(origin RUN)),runs/base-small,$(RUN)) input=$(INPUT) $(ARGS)

plan: $(READY) ## what a run needs: memory, hours, mixture (make plan CONFIG=... GPUS=8)
	$(call stage,mindllm.pretrain,configs/pretrain/tiny.yaml) plan=true hardware.gpus=$(GPUS)

pretrain: $(READY) ## pre-train under DeepSpeed (GPUS=n processes, or HOSTFILE=hosts on several machines)
	$(LAUNCH) mindllm.pretrain $(call config,configs/pretrain/tiny.yaml) run=$(RUN) $(ARGS)

reshard: $(READY) ## make the newest checkpoint one for any number of GPUs and ZeRO stage (RUN=...)
	$(BIN)/python -m mindllm.reshard $(RUN)/pretrain

export: $(READY) ## the trained model as a Hugging Face folder
	$(call stage,mindllm.export,configs/export/default.yaml)

generate: export PROMPT_TEXT = $(value PROMPT)
generate: $(READY) ## continue a text with the exported model: make generate PROMPT="..."
	$(BIN)/python -m mindllm.generate $(call config,configs/generate/default.yaml) run=$(RUN) "prompt=$$PROMPT_TEXT" $(ARGS)

benchmarks: $(READY) ## the fifteen benchmarks out of a folder of their files, for offline runs (DATA=folder)
	$(BIN)/python -m eval import "data=$(DATA)" out=runs/benchmarks $(ARGS)

# MODEL=folder: benchmarks of any exported model, in a run folder of its own
ifdef MODEL
eval: $(READY)
	$(BIN)/python -m eval harness $(call config,configs/eval/mindllm.yaml) run=$(if $(filter file,$(origin RUN)),runs/eval-$(notdir $(abspath $(MODEL))),$(RUN)) "model=$(MODEL)" $(ARGS)
else
eval: $(READY) ## benchmarks (lm-eval), bits per byte, samples; MODEL=folder: the fifteen benchmarks of any model
	$(call stage,eval harness,configs/eval/tiny.yaml)
	$(call stage,eval bpb,configs/eval/tiny.yaml)
	$(call stage,eval samples,configs/eval/tiny.yaml)
endif

contamination: $(READY) ## benchmark items in the training text, and the list that removes them
	$(call stage,eval contamination,configs/eval/contamination.yaml)

elo: $(READY) ## Elo ratings of several models by judged answers (the cost first: ARGS=plan=true)
	$(call stage,eval elo,configs/eval/elo.yaml)

report: $(READY) ## one HTML page about the run
	$(call stage,eval report,configs/eval/tiny.yaml)

doctor: $(READY) ## what this machine has, which paths will be taken, what is missing
	$(BIN)/python -m mindllm.doctor

bench: $(READY) ## the benches that need no data but samples/, in some minutes (bench/README.md has all)
	$(BIN)/python bench/clean_pages.py --repeats 3
	$(BIN)/python bench/repetition.py
	$(BIN)/python bench/sensitive.py
	$(BIN)/python bench/pii.py --text samples/prose
	$(BIN)/python bench/density.py samples/web
	$(BIN)/python bench/language.py en=samples/prose/riverbend zh-Hans=samples/prose/baichuan zh-Hant=samples/prose/haiwan
	$(BIN)/python bench/mutate.py --num 1000
	$(BIN)/python bench/minhash.py --repeats 3
	$(BIN)/python bench/dedup.py
	$(BIN)/python bench/kills.py --kills 3
	$(BIN)/python bench/training.py --quick

bench-gpu: $(READY) ## a training step on one GPU: tokens/s, MFU, memory, kernels against their formulas (docs/gpu.md)
	$(BIN)/python bench/gpu.py --parity
	$(BIN)/python bench/gpu.py --seq-lens 2048 --out gpu.jsonl $(ARGS)
	$(BIN)/python bench/gpu.py --seq-lens 8192 --out gpu.jsonl $(ARGS)

test: $(READY) ## the tests, in under 10 minutes on 2 cores
	$(BIN)/python -m pytest -m "not slow" -n 2 $(ARGS)

test-full: $(READY) ## the tests with the long matrices
	$(BIN)/python -m pytest -n 2 $(ARGS)

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## put the code into the project's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

samples: $(READY) ## write samples/web anew from samples/prose
	$(BIN)/python samples/build.py
