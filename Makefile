# The one list of verbs.
PYTHON ?= python3

ext:  ## build the C extension in place
	$(PYTHON) setup.py -q build_ext --inplace

smoke: ext  ## quick sanity check of a working tree
	$(PYTHON) -c 'import oko'

.PHONY: ext smoke
