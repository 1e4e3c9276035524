# Everything is set up on the way: `make demo` and `make test` work in a fresh clone.
PY := .venv/bin/python
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-video up test chaos lint fmt types migrate bench bench-api bench-worker bench-video gallery lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what the other targets need and write .env; done by them too
	@sh devstack/setup.sh

demo: setup ## turn a picture into a 3D model on a stack of its own; IMAGE=path.png takes yours
	@$(PY) -m devstack demo $${IMAGE:+--image "$$IMAGE"}

demo-video: ## take frames of a video and find who is in it, on a stack of its own; VIDEO=path.mp4 takes yours
	@sh devstack/setup.sh video
	@$(PY) -m devstack demo-video $${VIDEO:+--video "$$VIDEO"}

up: setup ## run the whole stack here until Ctrl-C, its data kept in .devstack
	@$(PY) -m devstack up

test: ## run all tests on servers of their own, in two processes; ARGS="-k name" runs some, in one
	@sh devstack/setup.sh tools
	@$(PY) -m $(if $(ARGS),pytest $(ARGS),tests.side_by_side)

chaos: setup ## kill and freeze parts of a busy platform, and check that nothing is lost; SECONDS=60 SEED=1
	@$(PY) -m tests.faults.chaos --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED)) $(if $(OUT),--out $(OUT))

lint: setup ## check style, formatting and import rules
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@.venv/bin/lint-imports

fmt: setup ## format the code and fix what can be fixed by itself
	@$(PY) -m ruff check --fix-only
	@$(PY) -m ruff format

types: setup ## check types
	@$(PY) -m mypy

migrate: setup ## bring the database of DATABASE_URL, or else the one in .devstack, up to date
	@$(PY) -m devstack migrate

bench: setup ## measure speed, all of it; run a script of bench/ by itself to give it arguments
	@for script in bench/[a-z]*.py; do [ -e "$$script" ] || continue; echo "== $$script"; $(PY) "$$script" || exit 1; done

bench-worker: setup ## compare the worker with RQ's own, Celery and Dramatiq, and time a job's whole path; ARGS=--quick is rougher
	@$(PY) bench/bench_worker.py $(ARGS)

bench-api: setup ## measure the API against what the database allows; a few minutes, fails below the limits
	@$(PY) bench/bench_api.py $(ARGS)

bench-video: setup ## take frames of a 10-minute video, against a bare decode and the usual way; ARGS=--quick is shorter
	@sh devstack/setup.sh tools
	@$(PY) bench/bench_video.py $(ARGS)

gallery: setup ## make docs/gallery anew: pictures, and the models that inflate-v1 makes of them
	@$(PY) -m bench.truth.gallery

lock: ## write poetry.lock anew, by way of POETRY_PYPI_MIRROR_URL if you set it
	@sh devstack/setup.sh lock

clean: ## remove all that was installed or made, but not .env and the data in .devstack
	@rm -rf .venv .poetry .bench tests/tools/node_modules demo-output htmlcov .coverage .coverage.* \
		.mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
