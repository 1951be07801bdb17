# make demo [IMAGE=path]   restore an example, or your own image, and show it in napari
# make test                run the tests
# make lint                ruff, mypy, import-linter
# make tour                drive the widget through all it does, and write the documentation's pictures
# make bench               compare with classical denoisers and inpainters (hours; goes on where it was stopped)
# make stress              soak, kills and fuzz: ten minutes at most
# make clean               remove what the above made
#
# Each sets up what it needs first, in .venv. PYTHON=python3.12 chooses the interpreter.

PYTHON ?= python3
IMAGE ?=
export PYTHON

BIN := .venv/bin
SETUP := pyproject.toml constraints.txt hatch_build.py scripts/environment.sh

# Without a screen, the same happens on a virtual one; Qt's "offscreen" platform has no OpenGL for napari.
ifeq ($(shell uname),Linux)
ifeq ($(DISPLAY)$(WAYLAND_DISPLAY),)
SCREEN := env -u QT_QPA_PLATFORM xvfb-run -a -s "-screen 0 1600x1200x24"
DEMO_FLAGS := --screenshot
endif
endif

.PHONY: demo test lint tour bench stress clean system
.DEFAULT_GOAL := test

demo: .venv/installed system
	$(SCREEN) $(BIN)/vae-repair demo $(if $(IMAGE),"$(IMAGE)") $(DEMO_FLAGS)

# On Linux, pytest-xvfb gives each process a virtual screen of its own; Mesa would draw each with all cores
test: .venv/installed system
	$(BIN)/python -m pytest -m "not gui" -n auto $(PYTEST_FLAGS)
	env -u QT_QPA_PLATFORM LP_NUM_THREADS=1 $(BIN)/python -m pytest -m gui -n auto --dist loadfile $(PYTEST_FLAGS)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

tour: .venv/installed system
	$(SCREEN) $(BIN)/python docs/tour.py

bench: .venv/installed-bench
	$(BIN)/python -m benchmarks.quality
	$(BIN)/python -m benchmarks.repair
	$(BIN)/python -m benchmarks.intervals
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.crops
	$(BIN)/python -m benchmarks.scratch

stress: .venv/installed
	$(BIN)/python -m stress

system:
	@bash scripts/system-libraries.sh

.venv/installed: $(SETUP)
	@bash scripts/environment.sh all,dev
	@touch $@

.venv/installed-bench: $(SETUP)
	@bash scripts/environment.sh all,bench,dev
	@touch $@ .venv/installed

clean:
	rm -rf .venv build dist demo-output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	rm -f src/napari_vae_repair/napari.yaml
	find src tests benchmarks stress -name __pycache__ -type d -prune -exec rm -rf {} +
