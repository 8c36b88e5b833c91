"""The recording, checked by listening: what is heard where, on which side, and what is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from benchmarks.made_tapes import Network, Says, at, long_call, loud_ms, silence, tone
from bot.audio import ulaw_to_pcm
from records.derive import write_recording
from records.derive.recording import blocks
from records.derive.timeline import pieces

SKEW_MS = 20.0


def off_by(heard: list[tuple[float, float]], true: list[tuple[float, float]]) -> float:
    """The largest distance between what is heard and the truth; fails where there is more or less of it."""
    assert len(heard) == len(true)
    return max(abs(a - b) for one, other in zip(heard, true, strict=True) for a, b in zip(one, other, strict=True))


def stereo(made: Any) -> np.ndarray:
    return np.concatenate(list(blocks(made.tape, made.derived.timeline)))


def test_both_sides_stand_where_they_sounded(made: Callable[..., Any], tmp_path: Path) -> None:
    caller = at((1_000, tone(600, 300)), (6_000, tone(500, 300)), ms=9_000)
    call = made(caller=caller, bot=[Says(2_000, tone(1_500)), Says(7_000, tone(700))])
    recording = write_recording(call.tape, call.derived.timeline, tmp_path)
    assert recording is not None
    assert recording.duration_ms == 9_000
    for path in (recording.flac, recording.opus):
        samples, rate = soundfile.read(path, dtype="int16")
        assert (rate, samples.shape) == (8_000, (72_000, 2))
        assert off_by(loud_ms(samples[:, 0]), loud_ms(call.truth.said)) < 3
        assert off_by(loud_ms(samples[:, 1]), loud_ms(call.truth.heard)) < 3
    assert soundfile.info(recording.flac).format == "FLAC"
    assert soundfile.info(recording.opus).subtype == "OPUS"


def test_the_flac_holds_every_sample(made: Callable[..., Any], tmp_path: Path) -> None:
    call = made(caller=at((500, tone(600, 300)), ms=3_000), bot=[Says(1_500, tone(900))])
    recording = write_recording(call.tape, call.derived.timeline, tmp_path)
    assert recording is not None
    samples, _ = soundfile.read(recording.flac, dtype="int16")
    assert np.array_equal(samples, stereo(call))


@pytest.mark.parametrize("cut_ms", [3_010.0, 3_333.0, 4_050.0])
def test_what_a_barge_in_cut_off_is_not_on_it(made: Callable[..., Any], cut_ms: float) -> None:
    call = made(
        caller=at((2_900, tone(800, 300)), ms=8_000),
        bot=[Says(2_000, tone(4_000), "a long answer", cut_ms=cut_ms), Says(5_000, tone(500))],
        network=Network(up_ms=40, down_ms=60),
    )
    heard = loud_ms(stereo(call)[:, 1])
    assert off_by(heard, loud_ms(call.truth.heard)) <= SKEW_MS
    assert heard[0][1] < cut_ms + 60 + 1
    assert [turn.interrupted for turn in call.record.turns if turn.speaker == "bot"] == [True, False]


def test_audio_that_waits_at_the_carrier_plays_when_it_is_its_turn(made: Callable[..., Any]) -> None:
    turns = [Says(1_000, tone(3_000), paced=False), Says(2_000, tone(1_000, 600), paced=False)]
    call = made(caller=silence(8_000), bot=turns)
    assert loud_ms(call.truth.heard) == [(1_025.0, pytest.approx(5_025, abs=1))]
    assert off_by(loud_ms(stereo(call)[:, 1]), loud_ms(call.truth.heard)) <= SKEW_MS


@pytest.mark.parametrize("drift_ppm", [-100.0, 100.0])
@pytest.mark.parametrize("jitter_ms", [0.0, 30.0])
def test_a_long_call_does_not_drift(made: Callable[..., Any], drift_ppm: float, jitter_ms: float) -> None:
    """Ten minutes, in which such clocks part by 60 ms; benchmarks/derive.py takes an hour."""
    turns = range(0, 10 * 60_000, 15_000)
    call = made(
        caller=at(*[(ms + 1_000, tone(500, 300)) for ms in turns], ms=10 * 60_000),
        bot=[Says(ms + 3_000, tone(2_000)) for ms in turns],
        network=Network(40, 60, jitter_ms, drift_ppm),
    )
    heard = stereo(call)
    assert off_by(loud_ms(heard[:, 0]), loud_ms(call.truth.said)) == 0
    assert off_by(loud_ms(heard[:, 1]), loud_ms(call.truth.heard)) <= SKEW_MS


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("jitter_ms", [20.0, 40.0, 80.0])
def test_jitter_moves_no_end_by_more_than_20_ms(made: Callable[..., Any], jitter_ms: float, seed: int) -> None:
    """Starts, ends and cut-off ends; benchmarks/derive.py takes an hour."""
    call = made(**long_call(3, Network(40, 60, jitter_ms, 100, seed)))
    heard = stereo(call)
    assert off_by(loud_ms(heard[:, 1], join_ms=400), loud_ms(call.truth.heard, join_ms=400)) <= SKEW_MS
    placed = np.array([call.derived.timeline.bot.start, call.derived.timeline.bot.played])
    truth = np.array(call.truth.pieces).T
    both = (placed[1] > 0) & (truth[1] > 0)
    # Where within a few frames the playout ran dry is told by no mark: of a hundred frames one may be further off.
    assert np.quantile(np.abs(placed[0] - truth[0])[both] / 8, 0.99) <= SKEW_MS


def test_lost_frames_leave_a_gap_and_repeated_ones_nothing(made: Callable[..., Any]) -> None:
    caller = at((500, tone(1_000, 300)), (3_000, tone(500, 300)), ms=5_000)
    lost = range(40, 60)
    call = made(caller=caller, network=Network(lost=frozenset(lost), twice=frozenset(range(152, 170))))
    kept = bytearray(caller)
    kept[40 * 160 : 60 * 160] = silence(400)
    assert stereo(call)[:, 0].tolist() == np.frombuffer(ulaw_to_pcm(bytes(kept)), "<i2").tolist()


def test_frames_in_bursts_fall_where_they_belong(made: Callable[..., Any]) -> None:
    caller = at((500, tone(1_000, 300)), ms=4_000)
    call = made(caller=caller, bot=[Says(2_000, tone(1_000))], network=Network(burst_ms=500))
    assert off_by(loud_ms(stereo(call)[:, 0]), loud_ms(caller)) == 0


def test_the_waveform_shows_who_speaks_when(made: Callable[..., Any], tmp_path: Path) -> None:
    call = made(caller=at((0, tone(1_000, 300, 16_000)), ms=4_000), bot=[Says(2_000, tone(1_000, peak=4_000))])
    recording = write_recording(call.tape, call.derived.timeline, tmp_path)
    assert recording is not None
    waveform = json.loads(recording.peaks.read_text())
    assert (waveform["ms"], len(waveform["caller"]), len(waveform["bot"])) == (4_000, 1_600, 1_600)
    assert max(waveform["caller"]) == pytest.approx(127, abs=4)
    assert max(waveform["bot"]) == pytest.approx(32, abs=3)
    assert [n for n, peak in enumerate(waveform["caller"]) if peak > 100][-1] == pytest.approx(399, abs=1)
    assert next(n for n, peak in enumerate(waveform["bot"]) if peak > 20) == pytest.approx(810, abs=2)


def test_a_call_without_a_sound_has_no_recording(made: Callable[..., Any], tmp_path: Path) -> None:
    call = made(caller=b"", stops=False)
    assert write_recording(call.tape, call.derived.timeline, tmp_path) is None
    assert not (tmp_path / "stereo.flac").exists()


def test_the_bots_audio_is_given_as_far_as_it_was_played(made: Callable[..., Any]) -> None:
    call = made(caller=silence(6_000), bot=[Says(1_000, tone(3_000), cut_ms=2_000.0)])
    played = sum(len(piece.mulaw) for channel, piece in pieces(call.tape, call.derived.timeline) if channel == "bot")
    assert played / 8 == pytest.approx(call.truth.stops_ms[0] - call.truth.starts_ms[0], abs=SKEW_MS)
