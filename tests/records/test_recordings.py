"""One contract for a folder, memory and an S3-compatible store."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from bot.errors import ConfigurationError, RecordingsError
from records.recordings import Recordings, Stored

SOUND = bytes(range(256)) * 5000  # 1.28 MB, more than one chunk
KEYS = {"access_key_id": "test", "secret_access_key": "test", "region": "us-east-1"}


@pytest.fixture(params=["folder", "memory", "s3"])
def recordings(request: pytest.FixtureRequest, tmp_path: Path) -> Recordings:
    if request.param == "s3":
        return Recordings(f"s3://calls/{tmp_path.name}", request.getfixturevalue("s3"))
    return Recordings("memory:" if request.param == "memory" else str(tmp_path / "recordings"))


def keys(recordings: Recordings, prefix: str = "") -> list[str]:
    return sorted(stored.key for stored in recordings.list(prefix))


def test_bytes_and_files_are_kept_and_read_back(recordings: Recordings, tmp_path: Path) -> None:
    (tmp_path / "made.flac").write_bytes(SOUND)
    recordings.put(tmp_path / "made.flac", "CA1/stereo.flac", "audio/flac")
    recordings.put(b"OggS", "CA1/listen.opus", "audio/ogg")
    assert recordings.read("CA1/stereo.flac") == SOUND
    assert recordings.size("CA1/stereo.flac") == len(SOUND)
    assert recordings.exists("CA1/listen.opus")
    assert not recordings.exists("CA1/listen.mp3")
    recordings.put(b"again", "CA1/listen.opus", "audio/ogg")
    assert recordings.read("CA1/listen.opus") == b"again"


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, None, SOUND),
        (10, 20, SOUND[10:20]),
        (len(SOUND) - 3, None, SOUND[-3:]),
        (len(SOUND) - 3, len(SOUND) + 100, SOUND[-3:]),
    ],
)
def test_a_range_is_read_in_pieces(recordings: Recordings, start: int, end: int | None, expected: bytes) -> None:
    recordings.put(SOUND, "CA1/stereo.flac", "audio/flac")
    piece = recordings.open_range("CA1/stereo.flac", start, end)
    chunks = list(piece.chunks)
    assert b"".join(chunks) == expected
    assert (piece.start, piece.end, piece.size) == (start, start + len(expected), len(SOUND))


def test_a_range_outside_is_refused(recordings: Recordings) -> None:
    recordings.put(b"12345", "CA1/stereo.flac", "audio/flac")
    for start, end in ((5, None), (99, 120), (-1, 3), (3, 3)):
        with pytest.raises(ValueError, match="which has 5"):
            recordings.open_range("CA1/stereo.flac", start, end)


def test_only_a_folder_has_files(recordings: Recordings, tmp_path: Path) -> None:
    recordings.put(b"12345", "CA1/stereo.flac", "audio/flac")
    path = recordings.path("CA1/stereo.flac")
    is_folder = (tmp_path / "recordings").is_dir()
    assert path == (tmp_path / "recordings" / "CA1" / "stereo.flac" if is_folder else None)
    if is_folder:
        for key, error in (("CA1/none", FileNotFoundError), ("../x", ValueError)):
            with pytest.raises(error):
                recordings.path(key)


def test_all_of_one_call_is_listed_and_removed(recordings: Recordings) -> None:
    for key in ("CA1/stereo.flac", "CA1/listen.opus", "CA12/stereo.flac", "CA1.2/stereo.flac"):
        recordings.put(b"x", key, "audio/flac")
    assert keys(recordings, "CA1") == ["CA1/listen.opus", "CA1/stereo.flac"]
    assert Stored("CA12/stereo.flac", 1) in list(recordings.list())
    assert recordings.delete_all("CA1") == 2
    assert recordings.delete_all("CA1") == 0
    assert keys(recordings) == ["CA1.2/stereo.flac", "CA12/stereo.flac"]
    recordings.delete("CA12/stereo.flac")
    recordings.delete("CA12/stereo.flac")
    assert keys(recordings) == ["CA1.2/stereo.flac"]
    with pytest.raises(ValueError, match="every recording"):
        recordings.delete_all("")


def test_what_is_not_there_is_told(recordings: Recordings) -> None:
    for use in (recordings.read, recordings.size, recordings.open_range):
        with pytest.raises(FileNotFoundError, match="there is no recording CA1/none"):
            use("CA1/none")
    assert keys(recordings, "CA1") == []


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "CA1/../../x", "CA1//x", "CA1/", "CA 1", ".hidden", "CA1/é"]
)
def test_a_key_cannot_lead_out_of_the_store(recordings: Recordings, key: str) -> None:
    for use in (recordings.read, recordings.delete, lambda key: recordings.put(b"", key, "audio/flac")):
        with pytest.raises(ValueError, match="recording's key"):
            use(key)


def test_a_folder_has_no_half_written_recording_and_no_empty_folders(tmp_path: Path) -> None:
    recordings = Recordings(f"file://{tmp_path}/new/recordings")
    folder = tmp_path / "new" / "recordings"
    recordings.put(b"first", "CA1/stereo.flac", "audio/flac")
    with pytest.raises(FileNotFoundError, match="the file to keep"):
        recordings.put(tmp_path / "nowhere", "CA1/stereo.flac", "audio/flac")
    (folder / "CA1" / "peaks.json").mkdir()
    with pytest.raises(RecordingsError, match="Is a directory"):
        recordings.put(b"cannot be put in its place", "CA1/peaks.json", "application/json")
    assert sorted(file.name for file in (folder / "CA1").iterdir()) == ["peaks.json", "stereo.flac"]
    (folder / "CA1" / "peaks.json").rmdir()
    (folder / "CA1" / "listen.opus.part").write_bytes(b"killed here")
    assert keys(recordings) == ["CA1/stereo.flac"]
    assert recordings.read("CA1/stereo.flac") == b"first"
    assert recordings.url("CA1/stereo.flac") is None
    assert recordings.delete_all("CA1") >= 2
    assert list(folder.iterdir()) == []


def test_a_presigned_address_gives_the_recording_with_its_type(s3: dict[str, str]) -> None:
    recordings = Recordings("s3://calls/signed", s3)
    recordings.put(SOUND, "CA1/listen.opus", "audio/ogg")
    url = recordings.url("CA1/listen.opus")
    assert url is not None
    assert "X-Amz-Expires=300" in url
    request = urllib.request.Request(url, headers={"Range": "bytes=5-9"})
    with urllib.request.urlopen(request) as answer:
        assert (answer.status, answer.headers["Content-Type"], answer.read()) == (206, "audio/ogg", SOUND[5:10])


def test_a_large_file_goes_up_in_parts(s3: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "hour.flac").write_bytes(SOUND * 10)
    recordings = Recordings("s3://calls/large", s3)
    recordings.put(tmp_path / "hour.flac", "CA1/stereo.flac", "audio/flac")
    assert recordings.read("CA1/stereo.flac") == SOUND * 10


def test_a_store_that_refuses_is_told_without_its_secret(s3: dict[str, str]) -> None:
    absent = Recordings("s3://no-such-bucket", {**s3, "secret_access_key": "planted"})
    with pytest.raises(RecordingsError, match="failed at CA1/x") as error:
        absent.put(b"", "CA1/x", "audio/flac")
    assert "planted" not in str(error.value)
    with pytest.raises(RecordingsError):
        absent.ping()


def test_a_store_that_can_be_used_says_so_and_keeps_nothing_of_it(recordings: Recordings) -> None:
    recordings.ping()
    assert keys(recordings) == []


@pytest.mark.parametrize("url", ["gs://bucket", "https://bucket.example.com", "s3://"])
def test_an_address_of_another_kind_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Recordings(url, KEYS)
    assert error.value.variable == "RECORDINGS_URL"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be made"):
        Recordings(str(tmp_path / "file" / "recordings"))
