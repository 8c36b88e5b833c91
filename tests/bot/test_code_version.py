"""A tape tells which code made it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot import app

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The sources elsewhere, as in an image: without the history."""
    for package in ("bot", "desk", "records"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.setattr(app, "ROOT", tmp_path)
    app.code_version.cache_clear()
    yield tmp_path
    app.code_version.cache_clear()


def version() -> str:
    app.code_version.cache_clear()
    return app.code_version()


def test_without_a_history_the_same_sources_have_the_same_version_and_others_another(copy: Path) -> None:
    first = version()
    assert re.fullmatch(r"\d+\.\d+\.\d+\+src\.[0-9a-f]{12}", first)
    assert version() == first
    (copy / "bot" / "call.py").write_text("# another call\n")
    assert version() != first


def test_a_checkout_names_its_commit_and_whether_it_was_changed(copy: Path) -> None:
    def git(*words: str) -> str:
        options = ["-c", "user.name=tests", "-c", "user.email=tests@example.com"]
        command = ["git", "-C", str(copy), *options, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init")
    git("add", ".")
    git("commit", "--message", "first")
    commit = git("rev-parse", "--short=12", "HEAD")
    assert version().endswith(f"+{commit}")
    (copy / "bot" / "call.py").write_text("# another call\n")
    assert version().endswith(f"+{commit}-dirty")
