"""Recordings over HTTP: whole, in ranges, from a folder and from a bucket; what may not be had; who heard what."""

from __future__ import annotations

import builtins
import io
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import soundfile
from fakes.console import CALL, ORIGIN, PASSWORD

from bot.tape import TapeReader
from records.recordings import Recordings
from records.retention import Retention
from records.store import Store

KINDS = {
    "stereo.ogg": "audio/ogg",
    "stereo.flac": "audio/flac",
    "peaks.json": "application/json",
    "tape.mcap": "application/vnd.mcap",
}


async def test_a_recording_is_served_whole_and_told_by_head(open_console: Any) -> None:
    async with open_console() as site:
        for name in KINDS:
            told, got = await site.recording(name, "HEAD"), await site.recording(name)
            assert (told.status_code, got.status_code) == (200, 200)
            assert told.content == b""
            assert got.content == site.file(name)
            for answer in (told, got):
                assert answer.headers["content-type"] == KINDS[name]
                assert answer.headers["content-length"] == str(len(got.content))
                assert answer.headers["accept-ranges"] == "bytes"
                assert answer.headers["cache-control"] == "private, no-cache"
                assert answer.headers["etag"].startswith('"')
            assert told.headers["etag"] == got.headers["etag"]
            kept = site.parts.store.page(CALL).recordings
            assert {each.content_type for each in kept if each.key.endswith(name)} <= {KINDS[name]}


async def test_what_is_served_can_be_played_and_read(open_console: Any, tmp_path: Path) -> None:
    async with open_console() as site:
        for name in ("stereo.ogg", "stereo.flac"):
            samples, rate = soundfile.read(io.BytesIO((await site.recording(name)).content))
            assert (rate, samples.shape) == (8_000, (72_000, 2))
        tape = await site.recording("tape.mcap")
        assert tape.headers["content-disposition"] == f'attachment; filename="{CALL}.tape.mcap"'
        (tmp_path / "got.mcap").write_bytes(tape.content)
        assert TapeReader(tmp_path / "got.mcap").meta["account"] == "AC1"


RANGES = [
    ("bytes=0-", 0, None),
    ("bytes=0-0", 0, 1),
    ("bytes=100-199", 100, 200),
    ("bytes=1000-", 1000, None),
    ("bytes=-1", -1, None),
    ("bytes=-700", -700, None),
    ("bytes=-999999999", 0, None),
    ("bytes=50-999999999", 50, None),
    ("BYTES=3-4", 3, 5),
]


async def test_a_range_is_served_to_the_byte(open_console: Any) -> None:
    async with open_console() as site:
        whole, told = site.file("stereo.flac"), await site.recording("stereo.flac", "HEAD")
        for asked, start, end in [*RANGES, (f"bytes={len(whole) - 1}-", -1, None)]:
            answer = await site.recording("stereo.flac", Range=asked)
            expected = whole[start:end]
            first = start if start >= 0 else len(whole) + start
            assert answer.status_code == 206
            assert answer.content == expected, asked
            assert answer.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{len(whole)}"
            assert answer.headers["content-length"] == str(len(expected))
            assert answer.headers["etag"] == told.headers["etag"]


async def test_a_range_outside_is_refused_with_the_size_and_is_no_hearing(open_console: Any) -> None:
    async with open_console() as site:
        size = len(site.file("stereo.ogg"))
        for asked in (f"bytes={size}-", "bytes=99999999-99999999", "bytes=-0"):
            answer = await site.recording(Range=asked)
            assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{size}")
        assert site.audit(CALL) == []


async def test_if_range_gives_the_whole_where_the_recording_was_made_again(open_console: Any) -> None:
    async with open_console() as site:
        etag = (await site.recording(method="HEAD")).headers["etag"]
        assert (await site.recording(Range="bytes=5-9", If_Range=etag)).status_code == 206
        for other in ('"other"', f"W/{etag}"):
            answer = await site.recording(Range="bytes=5-9", If_Range=other)
            assert (answer.status_code, answer.content) == (200, site.file("stereo.ogg"))
        site.parts.recordings.put(site.file("stereo.ogg"), f"{CALL}/stereo.ogg", "audio/ogg")
        assert (await site.recording(Range="bytes=5-9", If_Range=etag)).status_code == 200


NOTHING = [
    f"{CALL}/recordings/stereo.wav",
    f"{CALL}/recordings/..%2f..%2fconsole-key",
    f"{CALL}/recordings/%2e%2e%2fconsole-key",
    f"{CALL}/recordings/stereo.ogg%00",
    f"{CALL}/recordings/stereo.ogg.part",
    f"{CALL}%2f..%2f{CALL}/recordings/stereo.ogg",
    "../recordings/stereo.ogg",
    "..%2f..%2f/recordings/stereo.ogg",
    "CA78/recordings/stereo.ogg",
    "CA%0078/recordings/stereo.ogg",
    f"{'C' * 500}/recordings/stereo.ogg",
    ".hidden/recordings/stereo.ogg",
]


async def test_nothing_else_can_be_had(open_console: Any) -> None:
    async with open_console() as site:
        for path in NOTHING:
            for method in ("GET", "HEAD"):
                answer = await site.client.request(method, f"/api/calls/{path}")
                assert answer.status_code == 404, path
        assert site.audit(CALL) == []


async def test_what_is_in_the_store_without_a_call_is_not_served(open_console: Any) -> None:
    async with open_console() as site:
        site.parts.recordings.put(b"left over", "CA78/stereo.ogg", "audio/ogg")
        assert (await site.client.get("/api/calls/CA78/recordings/stereo.ogg")).status_code == 404
        (Path(site.settings.recordings) / CALL / "stereo.ogg").unlink()
        (Path(site.settings.recordings) / CALL / "stereo.ogg").mkdir()
        assert (await site.recording()).status_code == 404


@pytest.mark.parametrize("how", ["erased", "expired"])
async def test_an_erased_or_expired_recording_is_gone(open_console: Any, how: str) -> None:
    async with open_console(retention_audio_days=1) as site:
        assert (await site.recording(Range="bytes=0-9")).status_code == 206
        parts = site.parts
        days = parts.settings.retention
        retention = Retention(parts.database, parts.recordings, parts.inbox, days, site.clock, lambda _: None)
        if how == "erased":
            assert retention.erase_call(CALL, "ana")
        else:
            site.clock.forward(2 * 86_400 + 365 * 86_400)
            retention.sweep()
            await site.log_in()
        for name in KINDS:
            assert (await site.recording(name)).status_code == 404
        page = await site.client.get(f"/console/calls/{CALL}")
        if how == "erased":
            assert page.status_code == 404
        else:
            assert "It is no longer kept." in page.text
            assert "<audio" not in page.text
        # Files that a killed process has not removed yet are not served either.
        parts.recordings.put(b"still there", f"{CALL}/stereo.ogg", "audio/ogg")
        assert (await site.recording()).status_code == 404


async def test_a_hearing_stands_once_in_the_audit_log(open_console: Any) -> None:
    async with open_console() as site:
        await site.recording(method="HEAD")
        await site.recording("peaks.json")
        assert site.audit(CALL) == [], "nobody has heard anything yet"
        for asked in ("bytes=0-9", "bytes=2000-", "bytes=-100", "bytes=500-600"):
            await site.recording(Range=asked)
        assert site.audit(CALL) == [("operator", "listened", CALL)]
        await site.recording("stereo.flac", Range="bytes=700-")
        await site.recording("tape.mcap")
        assert [what for _, what, _ in site.audit(CALL)] == ["listened", "listened", "downloaded the tape"]
        session = site.parts.store.audit_log().items[-1].detail["session"]
        detail = [entry.detail for entry in reversed(site.parts.store.audit_log(CALL).items)]
        assert detail == [{"name": n, "session": session} for n in ("stereo.ogg", "stereo.flac", "tape.mcap")]
        for _ in range(3):  # goes on for longer than an hour
            site.clock.forward(2_000)
            await site.recording(Range="bytes=5-")
        assert len(site.audit(CALL)) == 3
        site.clock.forward(3_600)
        await site.recording()
        assert len(site.audit(CALL)) == 4
        async with site.browser() as other:
            await site.log_in(by=other)
            await other.get(f"/api/calls/{CALL}/recordings/stereo.ogg")
        assert len(site.audit(CALL)) == 5, "another login, another hearing"


async def test_nobody_hears_what_cannot_be_written_down(open_console: Any) -> None:
    async with open_console() as site:
        with site.parts.database.writing() as session:
            session.connection().exec_driver_sql("DROP TABLE records_audit_log")
        answer = await site.recording()
        assert answer.status_code == 503
        assert answer.json() == {"detail": "The records cannot be reached at the moment."}
        assert (await site.recording("peaks.json")).status_code == 200


async def test_a_bucket_gives_an_address_for_five_minutes(
    open_console: Any, s3: dict[str, str], tmp_path: Path
) -> None:
    where = f"s3://calls/{tmp_path.name}"
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "aws_region": "us-east-1"}
    async with open_console(recordings_url=where, aws_endpoint_url=s3["endpoint"], **keys) as site:
        assert isinstance(site.parts.recordings, Recordings)
        told = await site.recording(method="HEAD")
        assert (told.status_code, told.headers["content-length"]) == (200, str(len(site.file("stereo.ogg"))))
        assert site.audit(CALL) == []
        answer = await site.recording(Range="bytes=0-")
        assert (answer.status_code, answer.headers["cache-control"]) == (307, "private, no-store")
        address = answer.headers["location"]
        assert address.startswith(s3["endpoint"])
        assert "X-Amz-Expires=300" in address
        async with httpx.AsyncClient() as anybody:
            part = await anybody.get(address, headers={"Range": "bytes=-9"})
        assert (part.status_code, part.content) == (206, site.file("stereo.ogg")[-9:])
        await site.recording()
        assert site.audit(CALL) == [("operator", "listened", CALL)]
        page = await site.client.get(f"/console/calls/{CALL}")
        assert f"media-src 'self' {s3['endpoint']}" in page.headers["content-security-policy"]
        assert (await site.client.get("/api/calls/CA78/recordings/stereo.ogg")).status_code == 404
        site.parts.recordings.delete(f"{CALL}/stereo.ogg")
        assert (await site.recording()).status_code == 404


async def test_files_and_database_are_read_off_the_event_loop_in_pieces(
    open_console: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    reads: list[tuple[int, int]] = []

    class Watched(io.BufferedReader):
        def read(self, size: int | None = -1, /) -> bytes:
            reads.append((threading.get_ident(), size or -1))
            return super().read(size)

    def watched_open(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if str(path).endswith("stereo.flac"):
            return Watched(io.FileIO(path))
        return real_open(path, mode, *rest, **options)

    def watched_expired(store: Store, call_id: str) -> Any:
        asked.append(threading.get_ident())
        return real_expired(store, call_id)

    async with open_console() as site:
        sound = bytes(range(256)) * 20_000  # 5 MB
        site.parts.recordings.put(sound, f"{CALL}/stereo.flac", "audio/flac")
        real_open, real_expired = builtins.open, Store.expired
        for place in (builtins, io):
            monkeypatch.setattr(place, "open", watched_open)
        monkeypatch.setattr(Store, "expired", watched_expired)
        answer = await site.recording("stereo.flac", Range="bytes=10-")
        assert answer.content == sound[10:]
        assert len(asked) == 1
        assert threading.get_ident() not in {*asked, *(thread for thread, _ in reads)}
        assert len(reads) > 15
        assert all(0 < size <= 256 * 1024 for _, size in reads)


async def test_a_login_is_needed_for_each_range(open_console: Any) -> None:
    async with open_console() as site:
        assert (await site.recording(Range="bytes=0-9")).status_code == 206
        await site.client.post("/console/logout", headers={"Origin": ORIGIN})
        assert (await site.recording(Range="bytes=10-19")).status_code == 401
        assert PASSWORD not in str(site.parts.store.audit_log().items)
