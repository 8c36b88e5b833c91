"""The text model, by the official SDK against the stand-in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fakes.gemini import ListedEar, ToneVoice, tone

from bot.errors import ModelError
from records import text_model
from records.derive import DERIVE_VERSION
from records.record import CallRecord, TextUsage
from records.text_model import LONGEST_TRANSCRIPT, Ear, TextModel, transcript
from sandbox.gemini import GeminiStandIn

MODEL = "gemini-flash-latest"
MakeRecord = Callable[..., CallRecord]


@pytest.fixture(autouse=True)
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_model, "ATTEMPTS", 1)


def stand_in(*heard: str, **options: Any) -> GeminiStandIn:
    return GeminiStandIn(voice=ToneVoice(), ear=ListedEar(*heard), **options)


async def test_a_call_is_summarised_from_what_was_said_and_done(make_record: MakeRecord) -> None:
    async with stand_in() as server:
        answer = {"summary": " Booked a cleaning. ", "name": "Zoë", "reason": "", "appointment": None}
        server.text_answers.append(answer)
        summary = await asyncio.to_thread(TextModel("key", MODEL, server.url).summarise, make_record())
    assert (summary.text, summary.fields, summary.by) == ("Booked a cleaning.", {"name": "Zoë"}, MODEL)
    asked = server.text_requests[0].text
    # As the stand-in bills: a token for four letters.
    said = json.dumps(answer)
    assert summary.usage == TextUsage(
        "summary", MODEL, {"text_in": len(asked) // 4 + 1, "text_out": pytest.approx(len(said) // 4 + 1, abs=3)}
    )
    assert "caller: I'd like a cleaning on Tuesday" in asked
    assert "[book_appointment: ok, Booked.]" in asked
    assert asked.index("find_slots") < asked.index("book_appointment")


async def test_the_stand_ins_own_answer_has_the_form_asked_for(make_record: MakeRecord) -> None:
    async with stand_in() as server:
        summary = await asyncio.to_thread(TextModel("key", MODEL, server.url).summarise, make_record())
    assert "not a model" in summary.text
    assert summary.fields == {}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(429, "quota"), (403, "bad_key"), (404, "unknown_model"), (503, "internal"), ({"summary": 3}, "internal")],
)
async def test_what_goes_wrong_is_told_by_its_kind(make_record: MakeRecord, answer: Any, kind: str) -> None:
    async with stand_in() as server:
        server.text_answers.append(answer)
        with pytest.raises(ModelError) as refused:
            await asyncio.to_thread(TextModel("key", MODEL, server.url).summarise, make_record())
    assert refused.value.kind == kind
    assert "por favor" not in str(refused.value)


async def test_a_wrong_key_and_nobody_there(make_record: MakeRecord) -> None:
    async with stand_in(api_keys=["key"]) as server:
        with pytest.raises(ModelError) as refused:
            await asyncio.to_thread(TextModel("other", MODEL, server.url).summarise, make_record())
    assert refused.value.kind == "bad_key"
    with pytest.raises(ModelError) as away:
        await asyncio.to_thread(TextModel("key", MODEL, server.url).summarise, make_record())
    assert away.value.kind == "unreachable"


async def test_voice_without_words_is_heard_once(make_record: MakeRecord) -> None:
    async with stand_in("a quarter past nine") as server:
        ear = Ear(TextModel("key", MODEL, server.url), None)
        assert await asyncio.to_thread(ear.hear, tone(500), "en-US") == "a quarter past nine"
        record = make_record(derived_by=DERIVE_VERSION)
        turns = (replace(record.turns[3], text="a quarter past nine", source="recogniser"),)
        known = Ear(TextModel("key", MODEL, server.url), replace(record, turns=turns))
        assert await asyncio.to_thread(known.hear, tone(500), "en-US") == "a quarter past nine"
    assert [(usage.purpose, usage.model) for usage in ear.spent] == [("hearing", MODEL)]
    assert known.spent == list(record.text_usage), "what was heard before is not paid for again"
    assert len(server.text_requests) == 1
    assert server.text_requests[0].pcm16k == tone(500)
    assert "en-US" in server.text_requests[0].text


async def test_a_gap_that_cannot_be_heard_stays_one_and_is_told() -> None:
    async with stand_in() as server:
        server.text_answers.append(429)
        ear = Ear(TextModel("key", MODEL, server.url), None)
        assert await asyncio.to_thread(ear.hear, tone(500), "en-US") == ""
    assert "quota" in ear.trouble


def test_the_text_model_is_told_why_a_function_refused(make_record: MakeRecord) -> None:
    record = make_record()
    refused = replace(record.tools[1], status="refused", result={"error": "Nine is taken.", "hint": "Offer ten."})
    assert "[book_appointment: refused, Nine is taken.]" in transcript(replace(record, tools=(refused,)))


def test_of_a_very_long_call_the_middle_is_left_out(make_record: MakeRecord) -> None:
    record = make_record()
    turns = tuple(replace(record.turns[1], number=n, text="word " * 20 + str(n)) for n in range(2000))
    text = transcript(replace(record, turns=turns))
    assert len(text) < LONGEST_TRANSCRIPT + 200
    assert "\n[…]\n" in text
    assert "1999" in text
