# Every target works on a fresh clone: it makes .venv once, and again when the files below change.
PYTHON ?= python3
DOMAIN ?= lm
CLUSTER ?=
VENV := .venv
READY := $(VENV)/.ready
SUITE := $(VENV)/bin/suite
ARGS ?=
# Whole files, whose tests share fixtures, on as many cores as there are; slow files first.
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup sweep train status report claims claims-report test test-slurm test-pages soak unit check format bench bench-lm docs clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12
	@echo
	@echo "make sweep DOMAIN=lm            the main job: three kinds of feedback, three seeds each"
	@echo "make sweep DOMAIN=control       a pole swung up, learned from each kind of feedback"
	@echo "make sweep DOMAIN=bandit        claims on known optima"
	@echo "make sweep DOMAIN=rows          feedback that is there already, as rows of a file"
	@echo "make sweep DOMAIN=negatives     rejections alone: what keeps a language model whole"
	@echo "make sweep DOMAIN=offline       control from recorded episodes, beside CRR and AWR"
	@echo "make sweep DOMAIN=archive       a better point from scored ones, with nothing to try"
	@echo "make claims SIZE=small          the paper's claims, in miniature"
	@echo "make sweep DOMAIN=letters       a reward model as the judge, and how it is fooled"
	@echo "make train CONFIG=configs/bandit/sphere.yaml ARGS='feedback=negative seed=3'"

setup: $(READY) ## make .venv with everything at the versions of constraints.txt

$(READY): pyproject.toml constraints.txt
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once; one to three minutes)"
	@PIP_CONSTRAINT=constraints.txt $(VENV)/bin/pip install -qq --disable-pip-version-check torch==2.13.0
	@$(VENV)/bin/pip install -qq --disable-pip-version-check -c constraints.txt -e '.[control,language,dev]'
	@touch $@

sweep: $(READY) ## run what is left of a sweep and write its report (DOMAIN=lm, ARGS='key=value …')
	@$(SUITE) sweep $(DOMAIN) $(ARGS) $(if $(CLUSTER),--cluster $(CLUSTER))

train: $(READY) ## run one configuration (CONFIG=configs/…, ARGS='key=value …')
	@$(SUITE) train $(CONFIG) $(ARGS)

status: $(READY) ## show how the runs of a sweep stand (DOMAIN=lm)
	@$(SUITE) status $(DOMAIN) $(ARGS)

report: $(READY) ## write a sweep's report from what is there (DOMAIN=lm)
	@$(SUITE) report $(DOMAIN) $(ARGS)

claims: $(READY) ## run what is left of the paper's claims and judge them (CLAIM=P1, SIZE=small)
	@$(SUITE) claims $(CLAIM) $(if $(SIZE),--size $(SIZE)) $(ARGS) $(if $(CLUSTER),--cluster $(CLUSTER))

claims-report: $(READY) ## write the claims' page, figures and README section from committed records
	@$(SUITE) claims --report $(if $(SIZE),--size $(SIZE)) $(ARGS)

test: $(READY) ## run all tests
	@$(VENV)/bin/python -m pytest $(SIDE_BY_SIDE)

test-slurm: $(READY) ## run the tests that need SLURM, on one that is started for them (Debian, as root)
	@slurm/local_cluster.sh start >/dev/null && slurm/local_cluster.sh stop
	@$(VENV)/bin/python -m pytest $(SIDE_BY_SIDE) tests/slurm

test-pages: $(READY) ## run the tests of report pages in Chromium, which is installed where missing (Debian, as root)
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -qq -y chromium >/dev/null; }
	@$(VENV)/bin/python -m pytest tests/report/test_page.py

soak: $(READY) ## run a sweep on SLURM under sixty faults; writes results/published/soak.md
	@slurm/local_cluster.sh start >/dev/null && slurm/local_cluster.sh stop
	@$(VENV)/bin/python -m tests.slurm.soak $(ARGS)

unit: $(READY) ## run the tests that start no processes of their own
	@$(VENV)/bin/python -m pytest $(SIDE_BY_SIDE) -m 'not slow'

docs: $(READY) ## build the site of docs/ in build/docs/site; a broken link ends it
	@$(VENV)/bin/pip install -qq --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@$(VENV)/bin/python docs/site/configuration.py
	@$(VENV)/bin/python docs/site/stage.py
	@$(VENV)/bin/zensical build --clean --strict --config-file build/docs/mkdocs.yml
	@! grep -rlE '(src|stylesheet"? href)="?(https?:)?//' build/docs/site --include='*.html'

check: $(READY) ## what CI runs: format, lint, types, layers of imports, tests
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo
	@$(MAKE) --no-print-directory test

format: $(READY) ## rewrite the sources in the project's format
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

bench: $(READY) ## measure speed against bare torch and plain generate; writes results/published/benchmarks.md
	@$(VENV)/bin/python -m benchmarks

bench-lm: $(READY) ## measure a step on rows against bare torch and TRL; writes results/published/lm_step.md
	@$(VENV)/bin/pip install -qq --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@$(VENV)/bin/python -m benchmarks.lm_step

clean: ## remove .venv, the site and caches; results stay
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache
