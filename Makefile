.PHONY: help run test check fmt bench

help:   ## these lines
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed 's/: *##/\t/'
run:    ## serve; with nothing configured, place a sample call
	uv run server.py
test:   ## the whole test suite
	uv run pytest
check:  ## style and types
	uv run ruff format --check . && uv run ruff check . && uv run mypy
fmt:    ## format and mend what can be mended
	uv run ruff format . && uv run ruff check --fix .
bench:  ## speed and memory, side by side
	uv run --group bench -m benchmarks
