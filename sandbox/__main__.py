"""`python -m sandbox`: the stand-ins for Gemini and Twilio, and a phone to call a server with."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import TYPE_CHECKING

from loguru import logger

from sandbox.twilio.exchange import Exchange
from sandbox.twilio.record import new_sid

if TYPE_CHECKING:
    from sandbox.gemini.server import GeminiStandIn

_NOT_REAL = "These are stand-ins: no Gemini model, no Twilio, no telephone network."


def parser() -> argparse.ArgumentParser:
    """The command line."""
    from sandbox.twilio import terminal

    top = argparse.ArgumentParser(prog="python -m sandbox", description=f"{__doc__} {_NOT_REAL}")
    commands = top.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="both stand-ins in one process; prints one JSON line when ready")
    serve.add_argument("--gemini-port", type=int, default=0, help="default: any free port")
    serve.add_argument("--twilio-port", type=int, default=0, help="default: any free port")
    serve.add_argument("--with-parent", action="store_true", help="stop when the process that started this one is gone")
    twilio = commands.add_parser("twilio", help="the REST API of the stand-in carrier")
    twilio.add_argument("--port", type=int, default=8600, dest="twilio_port", help="default 8600, 0: any free port")
    for each in (serve, twilio):
        each.add_argument("--account-sid", default=new_sid("AC"), help="default: a new one")
        each.add_argument("--auth-token", default=new_sid(""), help="default: a new one")
    commands.add_parser("gemini", help="the stand-in for the Gemini Live API", add_help=False)
    terminal.add_arguments(commands.add_parser("call", help="phone a server"))
    return top


async def _serve(args: argparse.Namespace) -> int:
    """Run until SIGINT or SIGTERM; the JSON line names both addresses and the account."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        ready = {}
        if args.command == "serve":
            ready["gemini"] = (await stack.enter_async_context(_gemini(args.gemini_port))).url
        exchange = Exchange(args.account_sid, args.auth_token, port=args.twilio_port)
        await stack.enter_async_context(exchange)
        ready |= {
            "twilio": exchange.api_base_url,
            "account_sid": exchange.account_sid,
            "auth_token": exchange.auth_token,
        }
        if getattr(args, "with_parent", False):
            # The parent says that these are stand-ins, and its terminal shows the call.
            logger.remove()
            logger.add(sys.stderr, level="WARNING", diagnose=False)
            # Asked before the parent hears of us: one gone by then breaks the pipe, one that dies later is missed.
            parent = os.getppid()
            print(json.dumps(ready), flush=True)
            await _parent_or(stop, parent)
        else:
            print(_NOT_REAL, file=sys.stderr)
            print(json.dumps(ready), flush=True)
            await stop.wait()
    return 0


async def _parent_or(stop: asyncio.Event, parent: int) -> None:
    """Wait for `stop`, or until an orphan's new parent shows that `parent` died without a word."""
    while os.getppid() == parent:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await stop.wait()
                return


def _gemini(port: int) -> GeminiStandIn:
    from sandbox.gemini.server import GeminiStandIn

    return GeminiStandIn(port=port, record=False)


def _serve_gemini(options: list[str]) -> int:
    from sandbox.gemini import server  # half a second to load, and not needed for a call

    gemini = argparse.ArgumentParser(prog="python -m sandbox gemini")
    server.add_arguments(gemini)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(server.run(gemini.parse_args(options)))
    return 0


def main() -> int:
    """Run a command; returns the exit status."""
    command_line = parser()
    args, rest = command_line.parse_known_args()
    if args.command == "gemini":
        return _serve_gemini(rest)
    if rest:
        command_line.error(f"unrecognized arguments: {' '.join(rest)}")
    if args.command == "call":
        from sandbox.twilio import terminal

        return asyncio.run(terminal.run(args))
    try:
        return asyncio.run(_serve(args))
    except OSError as problem:
        print(f"sandbox: the port cannot be used: {problem.strerror}. Choose another one, or 0", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
