"""``sparring index``: what it makes, tells and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from sparring.training.cli import Commands, indexing


def run(*words: str) -> Result:
    app = typer.Typer(cls=Commands)
    app.callback()(lambda: None)
    indexing.add_to(app)
    return CliRunner().invoke(app, ["index", *words])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "animals"
    place.mkdir()
    (place / "whale.md").write_text("# Whales\nThey eat krill.")
    (place / "otter.md").write_text("# Otters\nThey hold hands.")
    (place / "photo.png").write_bytes(b"\x89PNG\0")
    return place


def test_a_folder_becomes_an_index_beside_it_that_can_be_searched(folder: Path) -> None:
    made = run("build", str(folder), "--dense", "spelling")
    assert made.exit_code == 0, made.output
    assert "2 documents in 2 passages, 512 numbers per passage from spelling:512" in made.output
    assert "left out: 1 files\n    photo.png: binary" in made.output
    found = run("search", f"{folder}.index", "who eats krill", "--way", "hybrid", "-k", "1")
    assert "whale.md: " in found.output and "otter" not in found.output
    assert run("search", f"{folder}.index", "zzz").output == "no results\n"


def test_figures_are_plain_data_for_scripts(folder: Path) -> None:
    made = json.loads(run("build", str(folder), "--to", str(folder.parent / "i"), "--json").output)
    shown = json.loads(run("show", str(folder.parent / "i"), "--json").output)
    assert made["documents"] == shown["documents"] == 2
    assert made["content"] == shown["content"]
    hits = json.loads(run("search", str(folder.parent / "i"), "hands", "--json").output)["hits"]
    assert [hit["id"] for hit in hits] == ["otter.md"]


def test_an_index_is_replaced_only_when_told_to(folder: Path) -> None:
    assert run("build", str(folder)).exit_code == 0
    again = run("build", str(folder))
    assert again.exit_code == 2 and "--replace" in again.output
    assert run("build", str(folder), "--replace").exit_code == 0


@pytest.mark.parametrize("words", [("build", "nowhere"), ("show", "nowhere"), ("search", "nowhere", "x")])
def test_what_is_not_there_is_one_message_and_exit_code_2(words: tuple[str, ...]) -> None:
    failed = run(*words)
    assert failed.exit_code == 2 and "nowhere" in failed.output and "Traceback" not in failed.output


def test_an_unknown_way_is_refused(folder: Path) -> None:
    run("build", str(folder))
    assert run("search", f"{folder}.index", "x", "--way", "magic").exit_code == 2


def test_a_model_becomes_vectors_of_its_own_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparring.scenarios.registry import embedders
    from sparring.training.embedding import LocalEmbedder
    from sparring.training.tiny import FOLDER

    monkeypatch.setitem(embedders._parts, "transformers", LocalEmbedder)
    made = run("build", str(folder), "--dense", f"transformers:{FOLDER}")
    assert "128 numbers per passage" in made.output, made.output
