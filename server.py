"""Switchboard's entry.

``uv run server.py`` serves; where nothing is configured it starts the stand-ins and places one sample call to itself.
``uv run server.py check`` tries everything that is configured and says whether calls can be taken.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from bot.errors import SwitchboardError


def main(arguments: list[str] | None = None) -> int:
    """Run the command; gives the exit status (0 fine, 1 calls cannot be taken, 2 bad configuration)."""
    parser = argparse.ArgumentParser(prog="server.py", description="Answers a business's phone.")
    parser.add_argument("--no-sample-call", action="store_true", help="do not place a sample call to itself")
    commands = parser.add_subparsers(dest="command")
    check = commands.add_parser("check", help="try every configured thing and explain it in one line each")
    check.add_argument("--fix", action="store_true", help="set the number's webhook, fallback and status URLs")
    options = parser.parse_args(arguments)
    try:
        if options.command == "check":
            from bot.doctor import check_everything

            return asyncio.run(check_everything(fix=options.fix))
        from bot.serve import serve

        return serve(sample_call=not options.no_sample_call)
    except SwitchboardError as error:
        print(f"Cannot start. {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
