# Each command works on a fresh machine; it installs what it needs into .venv:
#   make demo   scores photographs, trains the demo, scores two of its images, says what to run next
#   make app    shows the page on which pictures are scored, at http://127.0.0.1:7860
#   make test   lints, checks the format and runs the quick tests; `make test-all` runs the slow ones too
PYTHON ?= python3
RUN := .venv/bin/python
CLEAN := data/demo/images/scene_06_clean.png
NOISY := data/demo/images/scene_06_noise_5.png

# One process for each core, up to four: each takes up to 2 GB.
PYTEST := $(RUN) -m pytest -n auto --maxprocesses 4 --dist worksteal

.PHONY: demo app lint test test-slow test-all test-lowest test-browser torture clean
demo: .venv/.run
	$(RUN) tools/score_examples.py
	@echo
	$(RUN) main.py --overwrite
	$(RUN) inference.py $(CLEAN) $(NOISY) --checkpoint newest
	@echo
	@echo "First, three photographs were scored with the weights that come with the project. Then all of RichIQA was"
	@echo "trained with a tiny backbone on made-up pictures, which scored a clean scene, and the same with noise."
	@echo "Next: .venv/bin/python inference.py YOUR_IMAGE          score a picture with the weights of the project"
	@echo "      .venv/bin/python main.py --config configs/koniq10k.yaml    train on KonIQ-10k, see README.md"

app: .venv/.app
	$(RUN) app.py

lint: .venv/.dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

test: lint
	$(PYTEST)

test-slow: .venv/.dev
	$(PYTEST) -m slow

test-all: lint
	$(PYTEST) -m "slow or not slow"

# The oldest versions that the requirements allow, on the oldest Python: make test-lowest PYTHON=python3.10
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	cat requirements.txt requirements-dev.txt | sed -n 's/>=\([^,]*\).*/==\1/p' > .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install --quiet -r requirements-dev.txt -c .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# The page in a browser; needs Chromium and its driver (Debian: apt-get install chromium chromium-driver).
test-browser: .venv/.dev .venv/.app
	$(RUN) -m pip install --quiet --disable-pip-version-check "selenium>=4.20"
	$(RUN) -m pytest -rs tests/scoring/page

# Attacks at length, an hour or two; interrupted, it continues. Writes docs/RELIABILITY.md.
torture: .venv/.dev
	$(RUN) -m tests.torture

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

.venv/.app: requirements-app.txt .venv/.run
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-app.txt
	touch $@

clean:
	rm -rf .venv .venv-lowest
