# Two commands on a fresh machine, each with all its set-up in .venv:
#   make demo   trains the demo, scores an image, says what to run next
#   make test   lints, formats (check only) and tests
PYTHON ?= python3
RUN := .venv/bin/python
CLEAN := data/demo/images/scene_06_clean.png
NOISY := data/demo/images/scene_06_noise_5.png

.PHONY: demo test clean
demo: .venv/.run
	$(RUN) main.py --overwrite
	$(RUN) inference.py $(CLEAN) $(NOISY)
	@echo
	@echo "That was all of RichIQA with a tiny backbone on made-up pictures: a clean scene, then the same with noise."
	@echo "Next: .venv/bin/python inference.py YOUR_IMAGE          score a picture (with this toy, for the machinery only)"
	@echo "      .venv/bin/python main.py --config configs/koniq10k.yaml    train on KonIQ-10k, see README.md"

test: .venv/.dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	$(RUN) -m pytest

.venv/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed, e.g. make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/.run: requirements.txt .venv/.python
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/.dev: requirements-dev.txt .venv/.run
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

clean:
	rm -rf .venv
