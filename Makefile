# Two commands: `make compare` installs and runs the main job, `make test` installs and runs the tests.
# All paths are relative, so that a folder with a space in its name is no trouble.

python := .venv/bin/python

.PHONY: compare test clean

compare: .venv/bench
	.venv/bin/lrpilot compare

test: .venv/dev
	$(python) -m ruff check
	$(python) -m ruff format --check
	$(python) -m basedpyright
	$(python) -m pytest --numprocesses 2 --dist loadfile

# A marker file per extra, so that a second call installs nothing.
.venv/bench .venv/dev: pyproject.toml constraints.txt
	test -x $(python) || python3 -m venv .venv
	$(python) -m pip install --quiet --constraint constraints.txt --editable '.[$(notdir $@)]'
	touch $@

clean:
	rm -rf .venv
