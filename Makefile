# make label   install into .venv and label a drawn street, end to end, through Ray
# make test    install into .venv and run the default tests (under 10 minutes on 2 cores)
# make check   style and types
# make test-crashes    kill actors, drivers and stores at chosen points of a job
# make test-long     what takes seconds each: large networks, trainings in two processes, clusters of our own
# make test-consumers  read exports back with the tools' own libraries: datumaro, FiftyOne, Label Studio, supervision, ...
# make test-s3 install OpenStack Swift into .venv-swift and run the tests of object storage against it
# make zoo     read some hundred kinds of videos, and label some of them (gsvnet/video/README.md)
# make damage  plan, decode and label hundreds of damaged and lying videos
# make fuzz    look for inputs that break a promise, FUZZ_SECONDS for each target (tests/fuzz/README.md)
# make audit   ask whether an installed package has a known vulnerability; make sbom, make lock: what is installed, with hashes
# make soak    label on a faulty cluster for SECONDS and check that not a frame is lost, doubled or different
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
OUT    ?= out
SECONDS ?= 600
FUZZ_SECONDS ?= 600
FUZZERS := masks label_files queries records chunk_plans h264 containers lists settings
FUZZ := $(CURDIR)/.fuzz
AUDIT := $(CURDIR)/.venv-audit
SWIFT  := $(CURDIR)/.venv-swift/bin
CONSUMERS := $(CURDIR)/.venv-consumers

.PHONY: label test check test-crashes test-long test-consumers test-s3 soak zoo damage fuzz audit sbom lock clean

$(BIN)/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make PYTHON=python3.12"'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

label: $(VENV)/.installed
	$(BIN)/gsvnet label --demo --out $(OUT)

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-crashes: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow $(addprefix tests/crashes/test_,actor.py driver.py store.py spool.py)

test-long: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow $(addprefix tests/,parity/test_parity_tdnet.py models/test_checkpoints.py models/test_trunks.py labeling/test_around_jobs.py labeling/test_drift.py \
		training/test_parallel.py training/test_train_command.py training/test_train_tdnet_command.py training/test_tdnet_training.py \
		training/test_pairs.py training/test_keyframe_pairs.py training/test_temporal_losses.py \
		evaluation/test_cost.py test_end_to_end.py::test_labels_of_a_network_that_reads_motion_are_the_same_with_and_without_ray \
		labeling/ray/test_cluster.py labeling/ray/test_measure_on_gpu.py security/test_secrets.py security/test_ray_here.py damage/test_damaged_videos.py \
		labeling/test_same_labels.py labeling/test_other_hardware.py \
		labeling/ray/test_loop.py::test_a_killed_actors_shard_runs_elsewhere_soon \
		benchmark/test_end_to_end_rows.py::test_speedups_are_frames_per_second_over_those_of_keyframes_alone \
		benchmark/test_end_to_end_rows.py::test_a_second_side_is_timed_against_one_side_at_the_same_interval_and_at_half_of_it)

$(CONSUMERS)/.installed: $(BIN)/python tests/export/consumers/requirements.txt
	$(PYTHON) -m venv $(CONSUMERS)
	$(CONSUMERS)/bin/python -m pip install --quiet -r tests/export/consumers/requirements.txt
	touch $@

test-consumers: $(VENV)/.installed $(CONSUMERS)/.installed
	GSVNET_CONSUMERS_PYTHON=$(CONSUMERS)/bin/python $(BIN)/python -m pytest tests/export/test_consumers.py tests/store/test_recipes.py::test_hugging_face_streams_the_masks

$(SWIFT)/swift-proxy-server: $(BIN)/python
	$(PYTHON) -m venv $(dir $(SWIFT))
	$(SWIFT)/python -m pip install --quiet -c constraints.txt swift

test-s3: $(VENV)/.installed $(SWIFT)/swift-proxy-server
	GSVNET_SWIFT_BIN=$(SWIFT) $(BIN)/python -m pytest -m "s3 and not slow"

zoo: $(VENV)/.installed
	$(BIN)/python -m pytest -m "slow or not slow" tests/zoo

damage: $(VENV)/.installed
	$(BIN)/python -m tests.damage --job

$(FUZZ)/.installed: $(VENV)/.installed tests/fuzz/requirements.txt
	$(BIN)/python -m pip install --quiet --upgrade --target $(FUZZ) -r tests/fuzz/requirements.txt
	touch $@

fuzz: $(FUZZ)/.installed
	for target in $(FUZZERS); do PYTHONPATH=$(FUZZ) $(BIN)/python -m tests.fuzz $$target --seconds $(FUZZ_SECONDS) || exit 1; done

$(AUDIT)/.installed: $(BIN)/python
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet pip-audit==2.10.1 cyclonedx-bom==7.5.0 uv==0.13.9
	touch $@

audit: $(VENV)/.installed $(AUDIT)/.installed # --strict: what could not be looked up is a failure
	$(BIN)/python -m pip list --format=freeze --exclude-editable | sed 's/+[^=;]*$$//' > $(AUDIT)/installed.txt
	$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip -r $(AUDIT)/installed.txt

sbom: $(VENV)/.installed $(AUDIT)/.installed
	$(AUDIT)/bin/cyclonedx-py environment --output-reproducible --output-file sbom.json $(BIN)/python

# torch is left out, so that any build may go in first: then pip install --require-hashes --no-deps -r lock.txt
lock: $(VENV)/.installed $(AUDIT)/.installed
	echo "torch ; python_version < '3'" | $(AUDIT)/bin/uv pip compile pyproject.toml --extra label --extra s3 --extra view -c constraints.txt \
		--override - --generate-hashes --no-header --no-annotate --quiet --python $(BIN)/python -o lock.txt

soak: $(VENV)/.installed $(SWIFT)/swift-proxy-server
	GSVNET_SWIFT_BIN=$(SWIFT) $(BIN)/python -m tests.soak --seconds $(SECONDS)

check: $(VENV)/.installed
	$(BIN)/ruff check gsvnet jobs tests
	$(BIN)/ruff format --check gsvnet jobs tests
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .venv-swift .venv-consumers $(AUDIT) $(FUZZ) sbom.json lock.txt build dist *.egg-info
