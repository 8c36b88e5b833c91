"""Whatever a client sends, a session answers or closes with a service code; it never breaks."""

from __future__ import annotations

import json
import random
import re

import pytest
from fakes.gemini import ListedMind, LoudnessDetector
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.gemini import PROFILES
from sandbox.gemini.conversation import Handles
from sandbox.gemini.faults import FaultPlan
from sandbox.gemini.outbox import End, Send
from sandbox.gemini.session import Parts, Session
from sandbox.mind import Reply, ToolCall

WORDS = """model generationConfig responseModalities speechConfig voiceConfig thinkingConfig thinkingLevel tools
    functionDeclarations name behavior parameters realtimeInputConfig automaticActivityDetection disabled
    silenceDurationMs prefixPaddingMs activityHandling turnCoverage sessionResumption handle contextWindowCompression
    triggerTokens slidingWindow targetTokens historyConfig proactivity systemInstruction parts text turns role
    turnComplete audio video data mimeType mediaChunks activityStart activityEnd audioStreamEnd functionResponses id
    response scheduling willContinue function_responses turn_complete"""
NAMES = st.sampled_from(re.findall(r"\w+", WORDS))
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["", "AUDIO", "user", "model", "audio/pcm;rate=8000", "AAAA", "a-_", "NO_INTERRUPTION", "LOW", "f"]
    )
    | st.text(max_size=8)
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
KINDS = st.sampled_from(
    ["setup", "clientContent", "realtimeInput", "toolResponse", "contextUpdate", "client_content", "nonsense"]
)


def session(mind):
    parts = Parts(PROFILES, lambda: mind, LoudnessDetector, Handles(random.Random(1)), FaultPlan())
    return Session(
        parts,
        number=1,
        version="v1beta",
        chance=random.Random(1),
        admit=lambda setup: setup,
        on_audio=lambda _audio: None,
    )


def drain(live, now):
    """Takes everything that is due; the codes it closed with."""
    codes = []
    while action := live.outbox.take(now):
        if isinstance(action, End):
            codes.append(action.close.code)
        elif not isinstance(action, Send):
            live.outbox.done(action.job, bytes(9600) if hasattr(action, "text") else "words", now)
    return codes


@settings(max_examples=300)
@given(st.sampled_from([p.models[0] for p in PROFILES]), st.lists(st.tuples(KINDS, JSON), max_size=5))
def test_any_json_after_a_setup(model, messages):
    live = session(ListedMind(Reply(say="hm", calls=[ToolCall("f")])))
    thinking = {"generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW"}}} if "thinking" in model else {}
    live.received(json.dumps({"setup": {"model": f"models/{model}", **thinking}}), 0.0)
    assert drain(live, 2.0) == []
    codes = []
    for step, (kind, body) in enumerate(messages):
        live.received(json.dumps({kind: body}), 3.0 + step)
        codes += drain(live, 3.9 + step)
    assert codes in ([], [1007], [1008])


@settings(max_examples=300)
@given(st.dictionaries(NAMES, JSON, max_size=5))
def test_any_setup(body):
    live = session(ListedMind())
    live.received(json.dumps({"setup": {"model": "models/gemini-3.8-live"} | body}), 0.0)
    assert drain(live, 2.0) in ([], [1007], [1008])


@given(st.binary(max_size=40) | st.text(max_size=40))
def test_any_bytes(data):
    live = session(ListedMind())
    live.received(data, 0.0)
    assert drain(live, 1.0) == [1007]


@pytest.mark.parametrize("size", [1, 3, 639, 64_001])
def test_odd_amounts_of_audio(size):
    live = session(ListedMind())
    live.received('{"setup":{"model":"models/gemini-3.8-live"}}', 0.0)
    drain(live, 2.0)
    for rate in (8000, 16000, 48000):
        blob = {"data": "A" * (size * 4), "mimeType": f"audio/pcm;rate={rate}"}
        live.received(json.dumps({"realtimeInput": {"audio": blob}}), 3.0)
    assert drain(live, 3.5) == []
