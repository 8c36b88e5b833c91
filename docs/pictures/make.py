"""Draws the README's pictures from a recorded call.

    uv run -m sandbox call --sample Wednesday --save call.wav   # against a running server
    uv run docs/pictures/make.py data/tapes/DAY/CALL.mcap call.wav

Writes sample-call.svg (the tape as ``qa show`` prints it) and waveform.svg (above the caller, below the bot, as heard
on the line) beside this file.
"""

from __future__ import annotations

import re
import sys
import wave
from io import StringIO
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.terminal_theme import MONOKAI

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from bot.tape import TapeReader  # noqa: E402
from qa.show import show  # noqa: E402

WIDTH, HEIGHT, STEP = 1000, 90, 2


def draw_terminal(tape: Path) -> None:
    """The tape as the terminal shows it."""
    console = Console(record=True, width=118, file=StringIO(), force_terminal=True)
    show(TapeReader(tape), console)
    svg = console.export_svg(title="uv run -m qa show TAPE", theme=MONOKAI)
    # Rich names a font on somebody's server; the reader's own monospace will do.
    (HERE / "sample-call.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))


def draw_waveform(recording: Path) -> None:
    """Both sides of the line over time."""
    with wave.open(str(recording), "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
        seconds = file.getnframes() / file.getframerate()
    lanes = [_lane(samples[:, 0], 0, "#e0a030", "caller"), _lane(samples[:, 1], HEIGHT, "#30a0c0", "bot, as heard")]
    marks = "".join(
        f'<text x="{at / seconds * WIDTH:.0f}" y="{2 * HEIGHT + 14}" font-size="11">{at} s</text>'
        for at in range(0, int(seconds), 10)
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {2 * HEIGHT + 20}" font-family="sans-serif" '
        f'fill="#888">{"".join(lanes)}{marks}</svg>\n'
    )
    (HERE / "waveform.svg").write_text(svg)


def _lane(samples: np.ndarray, top: int, colour: str, name: str) -> str:
    pieces = np.array_split(np.abs(samples.astype(np.int32)), WIDTH // STEP)
    loudest = max(1, max(int(piece.max(initial=0)) for piece in pieces))
    middle = top + HEIGHT / 2
    bars = "".join(
        f"M{x * STEP} {middle - half:.1f}v{2 * half:.1f}"
        for x, piece in enumerate(pieces)
        if (half := piece.max(initial=0) / loudest * HEIGHT * 0.45) >= 0.5
    )
    return f'<path d="{bars}" stroke="{colour}"/><text x="4" y="{top + 12}" font-size="12">{name}</text>'


if __name__ == "__main__":
    draw_terminal(Path(sys.argv[1]))
    draw_waveform(Path(sys.argv[2]))
