"""An environment of its own for the stock bot, because this project leaves out some of what Pipecat installs.

Without them (docs/decisions/0016) Pipecat's default way to find the end of a turn cannot be loaded, and the comparison
would not be with what a newcomer gets. Everything both use has the same version in both.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import shutil
import sys
from pathlib import Path

FOLDER = Path(__file__).parent.parent / ".venv-stock"  # uv makes it ignore itself
_SAME = ("pipecat-ai", "google-genai", "fastapi", "uvicorn", "uvloop", "websockets", "orjson", "numpy", "soxr")
_BUILT = "built.txt"


class NoStockBot(RuntimeError):
    """The environment could not be made; the message says why."""


def requirements() -> list[str]:
    """What is installed there, by version."""
    return [f"{name}=={importlib.metadata.version(name)}" for name in _SAME]


def python_if_built() -> Path | None:
    """The interpreter, where an earlier run has made the environment from the same versions."""
    built = FOLDER / _BUILT
    return _python() if built.is_file() and built.read_text() == _stamp() else None


async def build() -> Path:
    """Make the environment if it is not there yet (minutes, 400 MB). Raises `NoStockBot`."""
    if python := python_if_built():
        return python
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        raise NoStockBot("uv is not on the PATH")
    await _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(FOLDER))
    await _run(uv, "pip", "install", "--quiet", "--python", str(_python()), *requirements())
    (FOLDER / _BUILT).write_text(_stamp())
    return _python()


def _python() -> Path:
    return FOLDER / "bin" / "python"


def _stamp() -> str:
    return "\n".join([sys.version, *requirements()])


async def _run(*command: str) -> None:
    # Outside the project, so that its overrides do not reach in.
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=FOLDER.parent.root
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise NoStockBot(f"{' '.join(command[1:3])} failed: {output.decode(errors='replace').strip()[-300:]}")
