"""Order and shape of the stand-in's frames against sessions recorded from the real service."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
from google.genai import types
from websockets.asyncio.client import connect

from sandbox.gemini import PROFILES
from sandbox.gemini.wire import camel
from sandbox.mind import Reply, ToolCall

RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "data" / "gemini-recordings"
NAMES = ["2.5_audio_turn", "2.5_history", "2.5_tool_round", "3.1_history_parity", "3.1_weather", "3.8_audio_turn"]
PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?key=k"


def recording(name):
    path = RECORDINGS / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"no recorded session at {path}")
    return [json.loads(line) for line in path.read_text().splitlines()]


def server_frames(lines):
    return [line["frame"] for line in lines if line["dir"] == "server"]


def texts(lines, kind):
    found = [f.get("serverContent", {}).get(kind, {}).get("text", "") for f in server_frames(lines)]
    return "".join(found).strip()


class AsRecorded:
    """Voice of the recorded length: 40 ms for each audio token that the recording was billed."""

    def __init__(self, tokens):
        self.tokens = tokens

    def speak(self, text, *, rate=24000):
        return bytes(self.tokens * rate // 25 * 2)


def stand_in_for(gemini, lines):
    """The stand-in, set up to say and call what the recording says and calls."""
    frames = server_frames(lines)
    calls = [c for f in frames if "toolCall" in f for c in f["toolCall"]["functionCalls"]]
    parts = [p for f in frames for p in f.get("serverContent", {}).get("modelTurn", {}).get("parts", ())]
    thought = "".join(p["text"] for p in parts if p.get("thought"))
    say = texts(lines, "outputTranscription")
    replies = [Reply(calls=[ToolCall(c["name"], c["args"]) for c in calls])] if calls else []
    replies.append(Reply(say=say, thought=thought))
    details = next(f["usageMetadata"] for f in frames if "usageMetadata" in f).get("responseTokensDetails", [])
    tokens = sum(d["tokenCount"] for d in details if d["modality"] == "AUDIO")
    heard = texts(lines, "inputTranscription")
    return gemini.serve(gemini.Mind(*replies), voice=AsRecorded(tokens), ear=gemini.Ear(heard))


async def replay(gemini, server, lines):
    """Sends what the client of the recording sent, each message when the recording had it; the frames that came."""
    got = []
    async with connect(server.url.replace("https", "wss") + PATH, ssl=gemini.tls.client) as socket:
        for line in lines:
            if line["dir"] == "server":
                if is_wanted_before_going_on(line["frame"]):
                    await read_until(socket, got, next(iter(line["frame"])))
            elif "realtime_input" in line["frame"]:
                blob = {"data": "", "mime_type": "audio/pcm;rate=16000"}
                pcm = gemini.silence(1880) + gemini.tone(2400) + gemini.silence(1000)
                blob["data"] = types.Blob(data=pcm).model_dump(mode="json")["data"]
                await socket.send(json.dumps({"realtime_input": {"audio": blob}}))
            else:
                await socket.send(json.dumps(with_our_ids(line["frame"], got)))
        await read_until(socket, got, "usageMetadata")
    return got


def is_wanted_before_going_on(frame):
    return "setupComplete" in frame or "toolCall" in frame


async def read_until(socket, got, key):
    while not any(key in frame for frame in got):
        got.append(json.loads(await socket.recv()))


def with_our_ids(frame, got):
    """A recorded toolResponse answers the recorded ids: ours are others."""
    ids = [c["id"] for f in got if "toolCall" in f for c in f["toolCall"]["functionCalls"]]
    for response, id in zip(frame.get("tool_response", {}).get("functionResponses", ()), ids, strict=False):
        response["id"] = id
    return frame


def shape(value):
    """Field names and types, without values."""
    if isinstance(value, dict):
        return {camel(k): shape(v) for k, v in sorted(value.items())}
    if isinstance(value, list):
        kinds = [shape(v) for v in value]
        return [k for k, _ in itertools.groupby(kinds)]
    return type(value).__name__


def story(frames, gemini_shape):
    """The order of events: runs of speech (audio, words, empty frames between them) count as one.

    Left out is what depends on the words: which tokens fall where.
    """
    words = []
    for word in gemini_shape(frames):
        plain = re.sub(r"audio\+outputTranscription|outputTranscription|audio", "speech", word)
        if plain == "{}" and words and words[-1] == "speech":
            continue
        if not words or words[-1] != plain or plain not in ("speech", "inputTranscription", "{}"):
            words.append(plain)
    return words


@pytest.mark.parametrize("name", NAMES)
async def test_frames_come_in_the_recorded_order(gemini, gemini_shape, name):
    lines = recording(name)
    async with stand_in_for(gemini, lines) as server:
        ours = await replay(gemini, server, lines)
    assert story(ours, gemini_shape) == story(server_frames(lines), gemini_shape)


@pytest.mark.parametrize("name", NAMES)
async def test_frames_have_the_recorded_shape(gemini, gemini_shape, name):
    """Each of our frames is, field for field, one that the real service sent in that session or that profile."""
    lines = recording(name)
    async with stand_in_for(gemini, lines) as server:
        ours = await replay(gemini, server, lines)
    family = [n for n in NAMES if n[:3] == name[:3]]
    recorded = {json.dumps(without_counts(f)) for n in family for f in server_frames(recording(n))}
    for frame in ours:
        assert json.dumps(without_counts(frame)) in recorded
    bills = [
        next(f["usageMetadata"] for f in frames if "usageMetadata" in f) for frames in (ours, server_frames(lines))
    ]
    unexplained = {"thoughtsTokenCount"}
    assert set(bills[0]) - unexplained == set(bills[1]) - unexplained


def without_counts(frame):
    """The shape of a frame; usage is compared apart, since zero counts are left out."""
    return shape({k: v for k, v in frame.items() if k != "usageMetadata"})


async def test_pace_of_the_recorded_3_8_turn(gemini):
    """Recorded: 12 audio frames within 0.6 s, turnComplete 2.3 s after the first, 2.5 s of speech."""
    lines = recording("3.8_audio_turn")
    frames = [(line["t"], line["frame"]) for line in lines if line["dir"] == "server"]
    audio = [t for t, f in frames if "modelTurn" in f.get("serverContent", {})]
    done = next(t for t, f in frames if f.get("serverContent", {}).get("turnComplete"))
    (profile,) = [p for p in PROFILES if "gemini-3.8-live" in p.models]
    seconds = 63 * 0.04
    assert len(audio) == pytest.approx(seconds * 1000 / profile.audio_frame_ms, abs=1)
    assert audio[-1] - audio[0] == pytest.approx(seconds / profile.delivery_factor, abs=0.1)
    assert done - audio[0] == pytest.approx(seconds, abs=0.3)
    assert frames[0][0] == pytest.approx(profile.setup_seconds, abs=0.1)
