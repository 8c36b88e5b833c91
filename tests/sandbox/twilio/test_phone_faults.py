"""Media sockets that go wrong: by the server's doing, and by the phone's on purpose."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
from typing import Any

import pytest

from sandbox import sound
from sandbox.conversation import Conversation, Habits, Turn
from sandbox.twilio import Faults, Phone

PUBLIC = "https://bot.example.com"
AFTER = "<Say>next verb</Say>"
STAYS = Habits(stays=True)


@pytest.fixture
def phone(account: tuple[str, str], voice: Any) -> Phone:
    return Phone(*account, public_url=PUBLIC, voice=voice)


async def call(phone: Phone, server: Any, stream: Any, *turns: Turn, **options: Any) -> Any:
    server.pages |= {"/voice": server.connect(after=AFTER), "/stream": "<Response/>"}
    server.stream = stream
    return await phone.call(f"{server.url}/voice", caller=Conversation(turns, STAYS), **options)


def codes(record: Any) -> list[int]:
    return [error.code for error in record.errors]


class TestWhatServersDo:
    async def test_refusing_the_upgrade_is_31920_and_the_next_verb_follows(self, phone: Phone, server: Any) -> None:
        server.pages |= {
            "/voice": '<Response><Connect><Stream url="wss://bot.example.com/nowhere"'
            f' statusCallback="{PUBLIC}/stream"/></Connect>{AFTER}</Response>',
            "/stream": "<Response/>",
        }
        record = await phone.call(f"{server.url}/voice", caller=Conversation(habits=STAYS))
        assert codes(record) == [31920]
        assert record.announcements[0][1] == "next verb"
        (told,) = server.at("/stream")
        assert told.signed
        assert (told.form["StreamEvent"], told.form["StreamError"][:5]) == ("stream-error", "31920")

    async def test_nobody_listening_is_31902(self, phone: Phone, server: Any) -> None:
        server.pages["/voice"] = (
            f'<Response><Connect><Stream url="wss://127.0.0.1:1/media"/></Connect>{AFTER}</Response>'
        )
        record = await phone.call(f"{server.url}/voice", caller=Conversation(habits=STAYS))
        assert record.errors[0].code in (31902, 31910)
        assert record.announcements[0][1] == "next verb"

    @pytest.mark.parametrize(("stream", "code"), [("ws://bot.example.com/media", 31922), ("wss://h/m?a=1", 31920)])
    async def test_a_stream_that_may_not_be_opened(self, phone: Phone, server: Any, stream: str, code: int) -> None:
        server.pages["/voice"] = f'<Response><Connect><Stream url="{stream}"/></Connect>{AFTER}</Response>'
        record = await phone.call(f"{server.url}/voice", caller=Conversation(habits=STAYS))
        assert codes(record) == [code]
        assert server.sockets == []
        assert record.announcements[0][1] == "next verb"

    async def test_closing_is_31921_with_the_close_code(self, phone: Phone, server: Any) -> None:
        async def stream(sock: Any) -> None:
            await sock.begin()
            await sock.web.close(1011)

        record = await call(phone, server, stream)
        assert codes(record) == [31921]
        assert record.streams[0].end.close_code == 1011
        assert [got.form["StreamEvent"] for got in server.at("/stream")] == ["stream-started", "stream-stopped"]
        assert "31921" in record.problems()[0]

    async def test_a_broken_connection_is_31903_and_the_next_verb_follows(self, phone: Phone) -> None:
        """A server of its own: the connection is reset without a closing frame."""
        from websockets.asyncio.server import serve

        async def media(socket: Any) -> None:
            await socket.recv()
            socket.transport.abort()

        async with serve(media, "127.0.0.1", 0) as running:
            port = running.sockets[0].getsockname()[1]
            phone.public_url = f"http://127.0.0.1:{port}"
            twiml = f'<Response><Connect><Stream url="wss://127.0.0.1:{port}/media"/></Connect>{AFTER}</Response>'
            call = phone.dial(f"http://127.0.0.1:{port}/", caller=Conversation(habits=STAYS), twiml=twiml)
            record = await call.run()
        assert codes(record) == [31903]
        assert record.announcements[0][1] == "next verb"

    async def test_bad_messages_are_warned_of_once_and_recorded_each_time(self, phone: Phone, server: Any) -> None:
        async def stream(sock: Any) -> None:
            await sock.begin()
            for _ in range(2):
                await sock.web.send_text("nonsense")
                await sock.web.send_bytes(b"\x00")
            await sock.say(sound.tone((440,), 200), mark="good")
            await sock.until("mark")
            await sock.web.close()

        record = await call(phone, server, stream)
        stream_record = record.streams[0].stream
        assert [notice.code for notice in stream_record.warnings] == [31951, 31950]
        assert len(stream_record.violations) == 4
        assert len(record.problems()) >= 3
        assert record.stream_heard

    async def test_barge_in_clear_returns_the_marks_and_stops_the_sound(self, phone: Phone, server: Any) -> None:
        async def stream(sock: Any) -> None:
            await sock.begin()
            await sock.say(sound.tone((440,), 5000), mark="unheard")
            while not sound.is_voiced(base64.b64decode((await sock.until("media"))["media"]["payload"])):
                pass
            await sock.send("clear")
            assert (await sock.until("mark"))["mark"]["name"] == "unheard"
            await sock.until("stop")

        turns = [Turn(play=sound.tone((700,), 300), barge_in_ms=600), Turn(pause_ms=500)]
        hang_up = Turn(hang_up=True, at_once=True)
        record = await call(phone, server, stream, *turns, hang_up)
        (segment,) = record.heard_segments
        (utterance,) = record.said_segments
        assert utterance.start_ms - segment.start_ms == pytest.approx(600, abs=60)
        assert utterance.start_ms <= segment.end_ms < utterance.start_ms + 500
        assert record.streams[0].stream.marks[0].cleared

    async def test_keys_reach_the_stream(self, phone: Phone, server: Any) -> None:
        async def stream(sock: Any) -> None:
            await sock.begin()
            await sock.until("stop")

        turns = [Turn(pause_ms=200), Turn(press="1#", at_once=True), Turn(hang_up=True, at_once=True)]
        await call(phone, server, stream, *turns)
        keys = [message["dtmf"] for message in server.sockets[0].of("dtmf")]
        assert keys == [{"track": "inbound_track", "digit": "1"}, {"track": "inbound_track", "digit": "#"}]

    async def test_response_times_are_read_off_the_playout_clock(self, phone: Phone, server: Any) -> None:
        async def stream(sock: Any) -> None:
            await sock.begin()
            await sock.say(sound.tone((440,), 400))
            spoke = False
            while True:
                voiced = sound.is_voiced(base64.b64decode((await sock.until("media"))["media"]["payload"]))
                if spoke and not voiced:
                    break
                spoke = spoke or voiced
            await sock.say(sound.SILENCE * 4000 + sound.tone((440,), 400), mark="end")
            await sock.until("mark")
            await sock.until("stop")

        turns = [Turn(play=sound.tone((700,), 400)), Turn(pause_ms=1500), Turn(hang_up=True, at_once=True)]
        record = await call(phone, server, stream, *turns)
        (response,) = record.responses()
        assert 500 <= response.ms < 1000
        assert response.caller_end_ms == pytest.approx(record.said_segments[0].end_ms)


class TestFaultsOnPurpose:
    async def _frames(self, phone: Phone, server: Any, faults: Faults, count: int = 60) -> list[tuple[float, int]]:
        arrived: list[tuple[float, int]] = []

        async def stream(sock: Any) -> None:
            await sock.begin()
            loop = asyncio.get_running_loop()
            while len(arrived) < count:
                message = await sock.until("media")
                arrived.append((loop.time(), int(message["media"]["timestamp"])))

        phone.faults = faults
        await call(phone, server, stream)
        return arrived

    async def test_jitter_delays_but_keeps_the_order(self, phone: Phone, server: Any) -> None:
        arrived = await self._frames(phone, server, Faults(jitter_ms=200))
        stamps = [stamp for _, stamp in arrived]
        assert stamps == sorted(stamps)
        gaps = [after[0] - before[0] for before, after in itertools.pairwise(arrived)]
        assert sum(gap < 0.004 for gap in gaps) > 20
        assert max(gaps) > 0.04

    async def test_bursts(self, phone: Phone, server: Any) -> None:
        arrived = await self._frames(phone, server, Faults(burst_ms=200))
        gaps = [after[0] - before[0] for before, after in itertools.pairwise(arrived)]
        assert sum(gap < 0.01 for gap in gaps) >= 40
        assert max(gaps) > 0.1

    async def test_loss_leaves_holes_in_the_timestamps(self, phone: Phone, server: Any) -> None:
        arrived = await self._frames(phone, server, Faults(loss=0.3))
        holes = {after[1] - before[1] for before, after in itertools.pairwise(arrived)}
        assert holes > {20}

    async def test_a_second_socket_for_the_same_call(self, phone: Phone, server: Any) -> None:
        second = asyncio.Event()

        async def stream(sock: Any) -> None:
            await sock.begin()
            if len(server.sockets) == 2:
                second.set()
                await sock.web.close(1008)
                return
            await second.wait()
            await asyncio.sleep(0.2)

        phone.faults = Faults(second_socket=True)
        record = await call(phone, server, stream)
        first, other = server.sockets
        assert first.start["callSid"] == other.start["callSid"]
        assert first.stream_sid != other.stream_sid
        assert other.signed
        assert record.streams[0].second_close_code == 1008

    async def test_media_without_start(self, phone: Phone, server: Any) -> None:
        got = []

        async def stream(sock: Any) -> None:
            got.extend([await sock.receive() for _ in range(3)])
            await sock.web.close()

        phone.faults = Faults(omit_start=True)
        await call(phone, server, stream)
        assert [message["event"] for message in got] == ["connected", "media", "media"]

    async def test_a_socket_that_never_starts(self, phone: Phone, server: Any) -> None:
        got = []

        async def stream(sock: Any) -> None:
            got.append(await sock.receive())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.6):
                    got.append(json.loads(await sock.web.receive_text()))
            await sock.web.close(1008)

        phone.faults = Faults(never_start=True)
        record = await call(phone, server, stream)
        assert [message["event"] for message in got] == ["connected"]
        assert record.streams[0].end.close_code == 1008

    async def test_half_open_falls_silent_without_closing(self, phone: Phone, server: Any) -> None:
        arrived = []

        async def stream(sock: Any) -> None:
            await sock.begin()
            with contextlib.suppress(TimeoutError):
                while True:
                    async with asyncio.timeout(1):
                        arrived.append(await sock.receive())
            live.hang_up()

        phone.faults = Faults(half_open_after_ms=400)
        server.pages |= {"/voice": server.connect(), "/stream": "<Response/>"}
        server.stream = stream
        live = phone.dial(f"{server.url}/voice", caller=Conversation(habits=STAYS))
        record = await live.run()
        assert 10 <= len(arrived) <= 20
        assert record.ended_by == "caller hung up"

    async def test_a_deaf_carrier_takes_nothing_and_sends_on(self, phone: Phone, server: Any) -> None:
        arrived = []

        async def stream(sock: Any) -> None:
            await sock.begin()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    while True:
                        arrived.append(await sock.receive())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    for _ in range(2_000):
                        await sock.say(sound.tone((440,), 1_000))
            live.hang_up()

        phone.faults = Faults(deaf_after_ms=20)
        server.pages |= {"/voice": server.connect(), "/stream": "<Response/>"}
        server.stream = stream
        live = phone.dial(f"{server.url}/voice", caller=Conversation(habits=STAYS))
        record = await live.run()
        assert len(arrived) > 30
        assert record.streams[0].stream.received_messages < 10
        assert record.ended_by == "caller hung up"

    async def test_a_slow_reader_makes_the_server_wait(self, phone: Phone, server: Any) -> None:
        """The carrier reads one message in 20 ms: what the server sends piles up on its own side."""

        async def stream(sock: Any) -> None:
            await sock.begin()
            for _ in range(20):
                await sock.say(sound.tone((440,), 20))
            await sock.send("mark", name="end")
            await sock.until("mark")
            await sock.web.close()

        phone.faults = Faults(read_delay_ms=50)
        started = asyncio.get_running_loop().time()
        await call(phone, server, stream)
        assert asyncio.get_running_loop().time() - started > 1.0

    async def test_a_server_that_reads_too_slowly_loses_the_callers_audio(self, phone: Phone, server: Any) -> None:
        """31930; the stream is fed by hand, much faster than the socket takes it."""
        from sandbox.twilio.media import MediaStream
        from sandbox.twilio.stream import StreamSocket

        socket = StreamSocket(MediaStream(stream_sid="MZ", call_sid="CA", account_sid="AC"), Faults())
        for _ in range(150):
            socket.frame(sound.SILENT_FRAME)
        assert socket.discarded_frames == 50
        assert [warning.code for warning in socket.stream.warnings] == [31930]
