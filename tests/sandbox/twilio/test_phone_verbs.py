"""What each TwiML verb does to a call, with the requests it leads to; on a clock that runs faster."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import Response

from sandbox import sound
from sandbox.conversation import Conversation, Habits, Turn
from sandbox.twilio import Callee, Phone
from sandbox.twilio.line import Pace

PUBLIC = "https://bot.example.com"
STAYS = Habits(stays=True)


@pytest.fixture
def phone(account: tuple[str, str], voice: Any) -> Phone:
    return Phone(*account, public_url=PUBLIC, voice=voice, pace=Pace(8))


async def call(phone: Phone, server: Any, twiml: str, *turns: Turn, **options: Any) -> Any:
    server.pages["/voice"] = f"<Response>{twiml}</Response>"
    server.pages.setdefault("/after", "<Response/>")
    return await phone.call(f"{server.url}/voice", caller=Conversation(turns, STAYS), **options)


def after(server: Any) -> Any:
    (got,) = server.at("/after")
    assert got.signed
    return got.form


class TestTalking:
    async def test_say_is_repeated_as_often_as_asked(self, phone: Phone, server: Any) -> None:
        record = await call(phone, server, '<Say loop="2">Hello there</Say>')
        assert [text for _, text in record.announcements] == ["Hello there"] * 2
        assert len(record.heard_segments) >= 1

    async def test_play_fetches_a_file_and_converts_it(self, phone: Phone, server: Any) -> None:
        tone = sound.tone((620,), 400)
        server.pages["/music.wav"] = Response(sound.wav(tone, tone), media_type="audio/wav")
        record = await call(phone, server, "<Play>/music.wav</Play>")
        (segment,) = record.heard_segments
        assert abs(segment.end_ms - segment.start_ms - 400) <= 20
        assert server.at("/music.wav")[0].method == "GET"

    @pytest.mark.parametrize(
        ("file", "code"), [(Response(status_code=404), 11200), (Response("x", media_type="audio/wav"), 12300)]
    )
    async def test_what_cannot_be_played_is_skipped(self, phone: Phone, server: Any, file: Any, code: int) -> None:
        server.pages["/music.wav"] = file
        record = await call(phone, server, "<Play>/music.wav</Play><Say>on</Say>")
        assert [error.code for error in record.errors] == [code]
        assert record.interpreter.executed == ["Play", "Say"]

    async def test_play_sends_keys_as_tones(self, phone: Phone, server: Any) -> None:
        record = await call(phone, server, '<Play digits="1w#"/>')
        assert sound.dtmf("1w#").rstrip(sound.SILENCE) in record.heard
        assert len(record.heard_segments) == 2

    async def test_a_pause_lasts(self, phone: Phone, server: Any) -> None:
        record = await call(phone, server, '<Say>a</Say><Pause length="3"/><Say>b</Say>')
        gap = record.announcements[1][0] - record.announcements[0][0]
        assert 3000 <= gap < 4500


class TestEnds:
    async def test_hangup(self, phone: Phone, server: Any) -> None:
        record = await call(phone, server, "<Hangup/><Say>never</Say>")
        assert (record.ended_by, record.interpreter.executed, record.answered) == ("<Hangup>", ["Hangup"], True)

    @pytest.mark.parametrize(("reason", "status"), [("busy", "busy"), ("rejected", "no-answer")])
    async def test_reject_as_the_first_verb_does_not_answer(
        self, phone: Phone, server: Any, reason: str, status: str
    ) -> None:
        record = await call(phone, server, f'<Reject reason="{reason}"/>')
        assert (record.answered, record.status, record.duration_seconds, record.heard) == (False, status, 0, b"")

    async def test_a_pause_first_is_waited_before_the_answer(self, phone: Phone, server: Any) -> None:
        record = await call(phone, server, '<Pause length="1"/><Reject/>')
        assert not record.answered

    async def test_the_end_of_the_document_hangs_up(self, phone: Phone, server: Any) -> None:
        record = await call(phone, server, "<Say>a</Say>")
        assert (record.ended_by, record.status) == ("document ended", "completed")

    async def test_redirect_goes_on_elsewhere(self, phone: Phone, server: Any) -> None:
        server.pages["/next"] = "<Response><Hangup/></Response>"
        record = await call(phone, server, '<Redirect method="GET">/next</Redirect><Say>never</Say>')
        assert record.interpreter.executed == ["Redirect", "Hangup"]
        assert server.at("/next")[0].method == "GET"

    async def test_the_time_limit_and_the_bill(self, phone: Phone, server: Any) -> None:
        server.pages["/status"] = "<Response/>"
        twiml = '<Say>a</Say><Pause length="100"/>'
        record = await call(phone, server, twiml, time_limit=3, status_callback=f"{PUBLIC}/status")
        assert record.ended_by == "time limit"
        (told,) = server.at("/status")
        assert told.form["CallStatus"] == "completed"
        assert told.form["CallDuration"] == str(record.duration_seconds)
        assert record.duration_seconds in (3, 4)
        assert told.form["Duration"] == "1"
        assert told.form["CallbackSource"] == "call-progress-events"

    async def test_an_unknown_verb_is_in_the_debugger(self, phone: Phone, server: Any) -> None:
        record = await call(phone, server, "<Sing/><Say>a</Say>")
        assert [error.code for error in record.errors] == [12200]


class TestCallbacks:
    EVENTS = ("initiated", "ringing", "answered", "completed")

    @pytest.mark.parametrize(
        ("how", "order"),
        [("ordered", "0123"), ("duplicated", "00112233"), ("reordered", "3210")],
    )
    async def test_they_come_in_order_or_not(self, phone: Phone, server: Any, how: str, order: str) -> None:
        from sandbox.twilio import Faults

        phone.faults = Faults(callbacks=how)
        server.pages["/status"] = "<Response/>"
        await call(
            phone,
            server,
            "<Say>a</Say>",
            status_callback=f"{PUBLIC}/status",
            status_callback_events=self.EVENTS,
        )
        assert "".join(got.form["SequenceNumber"] for got in server.at("/status")) == order

    async def test_a_failing_one_is_only_a_warning(self, phone: Phone, server: Any) -> None:
        server.pages["/status"] = Response(status_code=500)
        record = await call(phone, server, "<Say>a</Say>", status_callback=f"{PUBLIC}/status")
        assert record.status == "completed"
        assert [error.code for error in record.errors] == [15003]


class TestGather:
    async def test_digits_end_with_their_number(self, phone: Phone, server: Any) -> None:
        twiml = '<Gather numDigits="2" action="/after"><Say>Press two keys</Say></Gather>'
        await call(phone, server, twiml, Turn(press="42"))
        assert after(server)["Digits"] == "42"

    async def test_a_key_cuts_the_prompt_short(self, phone: Phone, server: Any) -> None:
        long = "x" * 300
        twiml = f'<Gather finishOnKey="*" action="/after"><Say>{long}</Say></Gather>'
        record = await call(phone, server, twiml, Turn(press="1*", barge_in_ms=500))
        assert (after(server)["Digits"], after(server)["FinishedOnKey"]) == ("1", "*")
        assert len(record.heard) < 8 * 30 * len(long)

    async def test_nothing_pressed_goes_on(self, phone: Phone, server: Any) -> None:
        record = await call(phone, server, '<Gather timeout="1" action="/after"/><Say>Nothing</Say>')
        assert record.interpreter.executed == ["Gather", "Say"]
        assert server.at("/after") == []

    async def test_or_asks_the_action_if_told_to(self, phone: Phone, server: Any) -> None:
        await call(phone, server, '<Gather timeout="1" action="/after" actionOnEmptyResult="true"/>')
        assert "Digits" not in after(server)

    async def test_speech(self, phone: Phone, server: Any) -> None:
        twiml = '<Gather input="dtmf speech" action="/after"><Say>Who is it?</Say></Gather>'
        await call(phone, server, twiml, Turn(say="It is me"))
        assert (after(server)["SpeechResult"], after(server)["Confidence"]) == ("It is me", "0.9")


class TestDial:
    async def test_the_caller_hears_ringing_then_the_callee(self, phone: Phone, server: Any, voice: Any) -> None:
        phone.callees = {"+15005550007": Callee(rings_ms=2000, talks_ms=1000, says="Front desk")}
        server.pages["/leg"] = "<Response/>"
        record = await call(
            phone,
            server,
            '<Dial action="/after"><Number statusCallback="/leg" statusCallbackEvent="initiated ringing answered'
            ' completed">+15005550007</Number></Dial>',
        )
        fields = after(server)
        assert (fields["DialCallStatus"], fields["DialBridged"]) == ("completed", "true")
        # Whole seconds of a talk of one second: a loaded machine rounds it to two.
        assert fields["DialCallDuration"] in ("1", "2")
        assert sound.from_pcm(voice.speak("Front desk", rate=8000), 8000) in record.heard
        # Two seconds of ringing, and right after it the callee's first word.
        assert record.heard_segments[0].end_ms == pytest.approx(2000 + 30 * len("Front desk"), abs=60)
        legs = server.at("/leg")
        assert {got.form["CallStatus"] for got in legs} == {"initiated", "ringing", "in-progress", "completed"}
        assert {got.form["ParentCallSid"] for got in legs} == {record.call_sid}
        assert fields["DialCallSid"] in {got.form["CallSid"] for got in legs}

    @pytest.mark.parametrize("outcome", ["busy", "no-answer", "failed"])
    async def test_nobody_to_talk_to(self, phone: Phone, server: Any, outcome: str) -> None:
        phone.callees = {"": Callee(outcome=outcome)}
        await call(phone, server, '<Dial action="/after">+15005550007</Dial>')
        assert (after(server)["DialCallStatus"], after(server)["DialBridged"]) == (outcome, "false")

    async def test_the_timeout(self, phone: Phone, server: Any) -> None:
        phone.callees = {"": Callee(rings_ms=60_000)}
        record = await call(phone, server, '<Dial timeout="3" action="/after"><Sip>sip:a@b</Sip></Dial>')
        assert after(server)["DialCallStatus"] == "no-answer"
        assert len(record.heard) < 10 * 8000

    async def test_without_an_action_the_next_verb_follows(self, phone: Phone, server: Any) -> None:
        record = await call(phone, server, "<Dial><Number>+15005550007</Number></Dial><Say>Back</Say>")
        assert record.interpreter.executed == ["Dial/Number", "Say"]

    async def test_the_first_to_answer_gets_the_call(self, phone: Phone, server: Any) -> None:
        phone.callees = {"+1500": Callee(outcome="busy"), "+1501": Callee(rings_ms=9000), "+1502": Callee(rings_ms=100)}
        numbers = "".join(f"<Number>{number}</Number>" for number in phone.callees)
        record = await call(phone, server, f'<Dial action="/after">{numbers}</Dial>')
        assert after(server)["DialCallStatus"] == "completed"
        assert len(record.heard) < 8 * 8000

    async def test_sequential_tries_one_after_the_other(self, phone: Phone, server: Any) -> None:
        phone.callees = {"+1500": Callee(outcome="busy", rings_ms=500), "+1501": Callee(rings_ms=500)}
        numbers = "".join(f"<Number>{number}</Number>" for number in phone.callees)
        await call(phone, server, f'<Dial sequential="true" action="/after">{numbers}</Dial>')
        assert after(server)["DialCallStatus"] == "completed"

    async def test_a_whisper_is_for_the_callee_only(self, phone: Phone, server: Any) -> None:
        server.pages |= {
            "/whisper": '<Response><Gather numDigits="1" action="/accept"><Say>Press one</Say></Gather>'
            "<Hangup/></Response>",
            "/accept": "<Response/>",
        }
        dial = '<Dial action="/after"><Number url="/whisper">+15005550007</Number></Dial>'
        record = await call(phone, server, dial)
        assert server.at("/accept")[0].form["Digits"] == "1"
        assert server.at("/whisper")[0].form["ParentCallSid"] == record.call_sid
        assert server.at("/whisper")[0].form["Direction"] == "outbound-dial"
        assert after(server)["DialCallStatus"] == "completed"
        assert record.announcements == []

    async def test_who_does_not_accept_is_not_connected(self, phone: Phone, server: Any) -> None:
        phone.callees = {"": Callee(presses="", says="never heard")}
        server.pages["/whisper"] = '<Response><Gather action="/accept"/><Hangup/></Response>'
        await call(phone, server, '<Dial action="/after"><Number url="/whisper">+1500</Number></Dial>')
        assert (after(server)["DialCallStatus"], after(server)["DialBridged"]) == ("no-answer", "false")

    async def test_a_queue(self, phone: Phone, server: Any) -> None:
        await call(phone, server, '<Dial action="/after"><Queue>support</Queue></Dial>')
        assert after(server)["DialCallStatus"] == "completed"

    async def test_the_caller_may_hang_up_meanwhile(self, phone: Phone, server: Any) -> None:
        phone.callees = {"": Callee(talks_ms=60_000)}
        turns = [Turn(pause_ms=3000), Turn(hang_up=True, at_once=True)]
        record = await call(phone, server, "<Dial>+15005550007</Dial>", *turns)
        assert record.ended_by == "caller hung up"


class TestQueueing:
    async def test_a_task_waits_hearing_music_and_is_connected(self, phone: Phone, server: Any) -> None:
        phone.callees = {"WW1": Callee(rings_ms=4000, talks_ms=500)}
        server.pages["/wait"] = "<Response><Say>Please hold</Say></Response>"
        record = await call(
            phone,
            server,
            '<Enqueue workflowSid="WW1" action="/after" waitUrl="/wait"><Task>{"lang":"en"}</Task></Enqueue>',
        )
        assert (after(server)["QueueResult"], after(server)["QueueTime"]) == ("bridged", "4")
        assert record.tasks == [{"lang": "en"}]
        waiting = server.at("/wait")[0].form
        assert {"QueuePosition", "QueueTime", "AvgQueueTime", "CurrentQueueSize", "MaxQueueSize"} <= set(waiting)
        assert record.announcements[0][1] == "Please hold"

    async def test_leaving_the_queue(self, phone: Phone, server: Any) -> None:
        phone.callees = {"support": Callee(outcome="no-answer", rings_ms=60_000)}
        server.pages["/wait"] = "<Response><Leave/></Response>"
        await call(phone, server, '<Enqueue action="/after" waitUrl="/wait">support</Enqueue>')
        assert after(server)["QueueResult"] == "leave"


class TestTheRest:
    async def test_record_takes_a_message(self, phone: Phone, server: Any) -> None:
        record = await call(
            phone,
            server,
            '<Record action="/after" timeout="2" recordingStatusCallback="/rec"/>',
            Turn(pause_ms=800),
            Turn(say="Please call me back", at_once=True),
        )
        fields = after(server)
        assert fields["RecordingSid"].startswith("RE")
        assert int(fields["RecordingDuration"]) >= 2
        assert fields["RecordingUrl"].endswith(fields["RecordingSid"])
        assert server.at("/rec")[0].form["RecordingSource"] == "RecordVerb"
        assert record.interpreter.executed == ["Record"]

    async def test_record_ends_with_a_key(self, phone: Phone, server: Any) -> None:
        turns = [Turn(pause_ms=800), Turn(say="Hello", at_once=True), Turn(press="#", at_once=True)]
        await call(phone, server, '<Record action="/after" timeout="30"/>', *turns)
        assert after(server)["Digits"] == "#"

    async def test_an_empty_message_goes_on(self, phone: Phone, server: Any) -> None:
        twiml = (
            '<Record action="/after" timeout="1" recordingStatusCallback="/rec"'
            ' recordingStatusCallbackEvent="completed absent"/><Say>Nothing</Say>'
        )
        record = await call(phone, server, twiml)
        assert record.interpreter.executed == ["Record", "Say"]
        assert [got.form["RecordingStatus"] for got in server.at("/rec")] == ["absent"]

    async def test_a_caller_who_hangs_up_has_left_a_message(self, phone: Phone, server: Any) -> None:
        turns = [Turn(pause_ms=800), Turn(say="Call me", at_once=True), Turn(hang_up=True, at_once=True)]
        twiml = '<Record action="/after" timeout="30" recordingStatusCallback="/rec"/>'
        record = await call(phone, server, twiml, *turns)
        fields = after(server)
        assert record.ended_by == "caller hung up"
        assert (fields["Digits"], fields["CallStatus"]) == ("hangup", "completed")
        assert server.at("/rec")[0].form["RecordingSid"] == fields["RecordingSid"]

    async def test_recording_runs_beside_the_call(self, phone: Phone, server: Any) -> None:
        server.pages["/rec"] = "<Response/>"
        twiml = (
            '<Start><Recording channels="dual" track="both" recordingStatusCallback="/rec"'
            ' recordingStatusCallbackEvent="in-progress completed absent"/></Start><Say>Hello there</Say>'
            "<Stop><Recording/></Stop><Say>not recorded</Say>"
        )
        server.pages["/voice"] = f"<Response>{twiml}</Response>"
        live = phone.dial(f"{server.url}/voice", caller=Conversation(habits=STAYS))
        record = await live.run()
        ((sid, recording),) = live.recordings.items()
        assert recording.status == "completed"
        assert recording.milliseconds < record.duration_seconds * 1000 + 1000
        assert [got.form["RecordingStatus"] for got in server.at("/rec")] == ["in-progress", "completed"]
        assert live.recording_wav(sid).startswith(b"RIFF")

    async def test_pay_answers_what_it_was_told_to(self, phone: Phone, server: Any) -> None:
        phone.payment = {"Result": "success", "PaymentCardNumber": "xxxx-4242"}
        await call(phone, server, '<Pay action="/after"/>')
        assert (after(server)["Result"], after(server)["PaymentCardNumber"]) == ("success", "xxxx-4242")

    async def test_refer_is_for_sip_callers(self, phone: Phone, server: Any) -> None:
        record = await call(phone, server, '<Refer action="/after"><Sip>sip:a@b</Sip></Refer>')
        assert after(server)["ReferCallStatus"] == "failed"
        assert [error.code for error in record.errors] == [13801]

    async def test_a_sip_caller_is_referred(self, phone: Phone, server: Any) -> None:
        record = await call(phone, server, "<Refer><Sip>sip:a@b</Sip></Refer>", from_="sip:me@pbx")
        assert (record.ended_by, record.errors) == ("referred", [])


class TestStreamsThatListen:
    async def test_both_tracks_of_a_started_stream(self, phone: Phone, server: Any) -> None:
        phone.pace = Pace(1)

        async def stream(sock: Any) -> None:
            await sock.begin()
            await sock.drain()

        server.stream = stream
        twiml = (
            '<Start><Stream name="tap" url="wss://bot.example.com/media" track="both_tracks"'
            ' statusCallback="/stream"/></Start><Say>Hello there, caller</Say><Stop><Stream name="tap"/></Stop>'
            "<Pause/>"
        )
        server.pages["/stream"] = "<Response/>"
        record = await call(phone, server, twiml, Turn(say="Yes", at_once=True))
        (sock,) = server.sockets
        assert sock.start["tracks"] == ["inbound", "outbound"]
        tracks = {message["media"]["track"] for message in sock.of("media")}
        assert tracks == {"inbound", "outbound"}
        assert sock.messages[-1]["event"] == "stop"
        assert [got.form["StreamEvent"] for got in server.at("/stream")] == ["stream-started", "stream-stopped"]
        assert record.interpreter.executed == ["Start/Stream", "Say", "Stop/Stream", "Pause"]

    async def test_stopping_what_does_not_run(self, phone: Phone, server: Any) -> None:
        record = await call(phone, server, '<Stop><Stream name="x"/></Stop>')
        assert [error.code for error in record.errors] == [32650]


async def test_calls_do_not_mix(phone: Phone, server: Any) -> None:
    server.pages["/voice"] = "<Response><Say>Hello</Say></Response>"
    records = await asyncio.gather(*(phone.call(f"{server.url}/voice") for _ in range(5)))
    assert len({record.call_sid for record in records}) == 5
    assert all(len(record.announcements) == 1 for record in records)
