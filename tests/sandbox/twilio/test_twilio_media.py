"""The carrier's side of Media Streams: what it sends, what it refuses, and when audio is heard."""

from __future__ import annotations

import base64
import io
import json
import warnings
import wave

import numpy as np
import pytest

from sandbox import sound
from sandbox.twilio.media import BUFFER_LIMIT, MediaStream

STREAM = "MZ" + "a" * 32


@pytest.fixture
def stream() -> MediaStream:
    return MediaStream(
        stream_sid=STREAM, call_sid="CA" + "b" * 32, account_sid="AC" + "c" * 32, parameters={"token": "s3cret"}
    )


def media(audio: bytes, **extra: object) -> str:
    payload = base64.b64encode(audio).decode()
    return json.dumps({"event": "media", "streamSid": STREAM, "media": {"payload": payload}} | extra)


def mark(name: str) -> str:
    return json.dumps({"event": "mark", "streamSid": STREAM, "mark": {"name": name}})


CLEAR = json.dumps({"event": "clear", "streamSid": STREAM})


def names(messages: list[str]) -> list[str]:
    return [json.loads(message)["mark"]["name"] for message in messages]


def play(stream: MediaStream, frames: int) -> tuple[bytes, list[str]]:
    heard, marks = b"", []
    for _ in range(frames):
        audio, due = stream.play()
        heard += audio
        marks += names(due)
    return heard, marks


class TestWhatTheCarrierSends:
    def test_numbers_are_strings_and_the_sequence_is_shared_by_all_events(self, stream: MediaStream) -> None:
        sent = [json.loads(text) for text in (stream.connected(), stream.start(), stream.media(b"\x01" * 160))]
        stream.play()
        sent += [json.loads(text) for text in (stream.media(b"\x02" * 160), stream.dtmf("#"), stream.stop())]
        assert sent[0] == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
        assert [message["sequenceNumber"] for message in sent[1:]] == ["1", "2", "3", "4", "5"]
        assert {message["streamSid"] for message in sent[1:]} == {STREAM}
        assert sent[1]["start"] == {
            "accountSid": "AC" + "c" * 32,
            "streamSid": STREAM,
            "callSid": "CA" + "b" * 32,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"token": "s3cret"},
        }
        assert [sent[2]["media"]["chunk"], sent[3]["media"]["chunk"]] == ["1", "2"]
        assert [sent[2]["media"]["timestamp"], sent[3]["media"]["timestamp"]] == ["0", "20"]
        assert base64.b64decode(sent[2]["media"]["payload"]) == b"\x01" * 160
        assert len(sent[2]["media"]["payload"]) == 216
        assert sent[4]["dtmf"] == {"track": "inbound_track", "digit": "#"}
        assert sent[5]["stop"] == {"accountSid": "AC" + "c" * 32, "callSid": "CA" + "b" * 32}

    def test_chunks_are_counted_per_track(self) -> None:
        stream = MediaStream(stream_sid=STREAM, call_sid="CA", account_sid="AC", tracks=("inbound", "outbound"))
        chunks = [
            json.loads(stream.media(b"\xff" * 160, track=track))["media"]["chunk"]
            for track in ("inbound", "outbound", "inbound")
        ]
        assert chunks == ["1", "1", "2"]

    def test_a_key_that_no_telephone_has_is_refused(self, stream: MediaStream) -> None:
        with pytest.raises(ValueError, match="no key 'E'"):
            stream.dtmf("E")


class TestPlayout:
    def test_audio_of_any_size_is_played_in_order_at_8000_bytes_a_second(self, stream: MediaStream) -> None:
        audio = bytes(range(250)) * 2
        for start, end in ((0, 7), (7, 390), (390, 500)):
            assert stream.receive(media(audio[start:end])) == []
        assert stream.buffered_ms == 62
        heard, _ = play(stream, 4)
        assert heard == audio + sound.SILENCE * 140
        assert stream.buffered_ms == 0

    def test_a_mark_comes_back_when_all_before_it_has_been_played(self, stream: MediaStream) -> None:
        stream.receive(media(b"\x10" * 320))
        assert stream.receive(mark("half")) == []
        stream.receive(media(b"\x11" * 160))
        stream.receive(mark("end"))
        echoes = [names(stream.play()[1]) for _ in range(4)]
        assert echoes == [[], ["half"], ["end"], []]
        assert [(each.name, each.echoed_ms, each.cleared) for each in stream.marks] == [
            ("half", 40, False),
            ("end", 60, False),
        ]

    def test_a_mark_comes_back_at_once_if_nothing_is_buffered(self, stream: MediaStream) -> None:
        play(stream, 2)
        echo = stream.receive(mark("now"))
        assert json.loads(echo[0]) == {
            "event": "mark",
            "sequenceNumber": "1",
            "streamSid": STREAM,
            "mark": {"name": "now"},
        }

    def test_clear_drops_the_audio_and_returns_pending_marks_in_order(self, stream: MediaStream) -> None:
        for name in ("one", "two", "three"):
            stream.receive(media(b"\x10" * 320))
            stream.receive(mark(name))
        play(stream, 2)
        assert names(stream.receive(CLEAR)) == ["two", "three"]
        assert [(each.name, each.cleared) for each in stream.marks] == [
            ("one", False),
            ("two", True),
            ("three", True),
        ]
        heard, marks = play(stream, 3)
        assert heard == sound.SILENCE * 480
        assert marks == []
        assert stream.clears == [40]

    def test_ten_minutes_are_buffered_and_no_more(self, stream: MediaStream) -> None:
        block = b"\x20" * 480_000
        for _ in range(10):
            stream.receive(media(block))
        assert stream.buffered_ms == 600_000
        stream.receive(media(b"\x20" * 160))
        stream.receive(media(b"\x20" * 160))
        assert stream.buffered_ms == BUFFER_LIMIT // 8
        assert [notice.code for notice in stream.warnings] == [31931]
        assert len(stream.violations) == 2

    def test_an_underrun_is_a_short_gap_in_mid_sound(self, stream: MediaStream) -> None:
        loud = sound.tone((440,), 100)
        stream.receive(media(loud))
        play(stream, 8)
        stream.receive(media(loud))
        play(stream, 5)
        assert [(gap.at_ms, gap.length_ms, gap.voiced) for gap in stream.gaps] == [(100, 60, True)]
        assert stream.underruns == 1

    @pytest.mark.parametrize("ending", [sound.SILENCE * 400, b""])
    def test_a_pause_between_sentences_is_no_underrun(self, stream: MediaStream, ending: bytes) -> None:
        stream.receive(media(sound.tone((440,), 100) + ending))
        play(stream, 14 if ending else 5 + 26)
        stream.receive(media(sound.tone((440,), 100)))
        assert len(stream.gaps) == 1
        assert stream.underruns == 0

    def test_clearing_is_no_underrun(self, stream: MediaStream) -> None:
        stream.receive(media(sound.tone((440,), 200)))
        play(stream, 5)
        stream.receive(CLEAR)
        play(stream, 5)
        stream.receive(media(sound.tone((440,), 200)))
        assert stream.gaps == []


class TestBrokenRules:
    @pytest.mark.parametrize(
        ("message", "code"),
        [
            (b"\x00\x01", 31950),
            ("not json", 31951),
            ("[]", 31951),
            (json.dumps({"event": "hello", "streamSid": STREAM}), 31951),
            (json.dumps({"streamSid": STREAM}), 31951),
            (media(b"\xff" * 160).replace(STREAM, "MZ" + "0" * 32), 31951),
            (json.dumps({"event": "clear"}), 31951),
            (json.dumps({"event": "clear", "streamSid": STREAM, "clear": {}}), 31951),
            (media(b"\xff" * 160, sequenceNumber="1"), 31951),
            (json.dumps({"event": "media", "streamSid": STREAM, "media": {"payload": "!!!"}}), 31951),
            (json.dumps({"event": "media", "streamSid": STREAM, "media": {"payload": ""}}), 31951),
            (json.dumps({"event": "media", "streamSid": STREAM, "media": {"payload": 5}}), 31951),
            (json.dumps({"event": "media", "streamSid": STREAM, "media": {"payload": "/w==", "track": "x"}}), 31951),
            (json.dumps({"event": "mark", "streamSid": STREAM, "mark": {}}), 31951),
            (json.dumps({"event": "mark", "streamSid": STREAM}), 31951),
            (media(b"RIFF" + b"\x00" * 40), 31951),
        ],
    )
    def test_each_is_recorded(self, stream: MediaStream, message: str | bytes, code: int) -> None:
        assert stream.receive(message) == []
        assert [notice.code for notice in stream.violations] == [code]

    def test_the_debugger_shows_each_code_once_but_the_record_every_one(self, stream: MediaStream) -> None:
        for _ in range(3):
            stream.receive("nonsense")
            stream.receive(b"binary")
        assert [notice.code for notice in stream.warnings] == [31951, 31950]
        assert len(stream.violations) == 6

    def test_bad_messages_do_not_disturb_the_good_ones(self, stream: MediaStream) -> None:
        stream.receive("nonsense")
        stream.receive(media(b"\x11" * 160))
        assert stream.play()[0] == b"\x11" * 160

    def test_a_stream_that_only_listens_refuses_audio(self) -> None:
        stream = MediaStream(stream_sid=STREAM, call_sid="CA", account_sid="AC", bidirectional=False)
        stream.receive(media(b"\x11" * 160))
        assert [notice.code for notice in stream.violations] == [31951]

    def test_sizes_that_are_not_frames_are_allowed_and_counted(self, stream: MediaStream) -> None:
        stream.receive(media(b"\x11" * 161))
        assert stream.odd_sizes == 1
        assert stream.violations == []


class TestSound:
    def test_mulaw_agrees_with_the_standard_library(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # before Python 3.13 it is in the standard library
            import audioop
        codes = bytes(range(256))
        assert sound.decode(codes).tobytes() == audioop.ulaw2lin(codes, 2)
        every = np.arange(-32768, 32768, dtype=np.int16)
        ours, theirs = sound.encode(every), audioop.lin2ulaw(every.tobytes(), 2)
        assert np.mean(np.frombuffer(ours, np.uint8) != np.frombuffer(theirs, np.uint8)) < 0.01
        assert np.max(np.abs(sound.decode(ours).astype(int) - sound.decode(theirs).astype(int))) <= 1024
        assert sound.encode(sound.decode(codes)) in (codes, codes.replace(b"\x7f", b"\xff"))

    def test_segments_are_exact_to_the_sample(self) -> None:
        track = sound.SILENCE * 1000 + sound.tone((400,), 200) + sound.SILENCE * 4000 + sound.tone((400,), 300)
        found = sound.segments(track)
        assert [round(each.start_ms) for each in found] == [125, 825]
        assert [round(each.end_ms) for each in found] == [325, 1125]

    def test_a_stereo_file_of_another_rate_becomes_8_khz_mono(self) -> None:
        at = np.arange(44100) / 44100
        left = (12000 * np.sin(2 * np.pi * 440 * at)).astype("<i2")
        file = io.BytesIO()
        with wave.open(file, "wb") as writer:
            writer.setnchannels(2)
            writer.setsampwidth(2)
            writer.setframerate(44100)
            writer.writeframes(np.stack([left, left], axis=1).tobytes())
        samples = sound.decode(sound.load(file.getvalue())).astype(float)
        assert abs(len(samples) - 8000) <= 2
        peak = np.argmax(np.abs(np.fft.rfft(samples))) * 8000 / len(samples)
        assert abs(peak - 440) < 2

    def test_what_is_no_audio_is_named(self) -> None:
        with pytest.raises(ValueError, match="cannot be read as audio"):
            sound.load(b"hello")

    def test_the_wav_has_a_channel_for_each_track(self) -> None:
        with wave.open(io.BytesIO(sound.wav(b"\x00" * 160, b"\x80" * 80))) as reader:
            assert (reader.getnchannels(), reader.getframerate(), reader.getnframes()) == (2, 8000, 160)
            samples = np.frombuffer(reader.readframes(160), dtype="<i2").reshape(-1, 2)
        assert set(samples[:, 0]) == {-32124}
        assert list(samples[:, 1]) == [32124] * 80 + [0] * 80
