"""``python -m qa COMMAND``: what can be asked of a recorded call.

Each command is a module with `add_command(commands)`, which adds its parser and sets ``run``: a function that takes the
parsed arguments and returns the exit status. Exit status 2 and one line on stderr: the command could not do its work.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from bot.errors import SwitchboardError
from qa import show, verify

COMMANDS = (show, verify)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m qa", description="What can be asked of a recorded call.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_command(commands)
    arguments = parser.parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except SwitchboardError as error:
        print(f"qa: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output went away (``| head``); what Python flushes at its exit must not fail on it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main())
