"""What an index says of itself, and whether its files are the ones it was written with."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from sparring.scenarios.errors import ScenarioError

FORMAT = 1
MANIFEST = "manifest.json"
HASHED = 64 << 20  # bytes: larger files are compared by size alone when an index is opened


class FileNote(BaseModel):
    """Size in bytes and SHA-256 of one file."""

    model_config = ConfigDict(frozen=True)
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """The first file read. ``dense`` names the embedder of the vectors, ``skipped`` the files left out with reasons."""

    model_config = ConfigDict(frozen=True)
    format: int
    source: str
    documents: int
    passages: int
    characters: int
    dense: str | None
    dimensions: int
    skipped: list[list[str]]
    files: dict[str, FileNote]

    @property
    def bytes(self) -> int:
        """What the index takes on disk, the manifest aside."""
        return sum(file.bytes for file in self.files.values())

    @property
    def content(self) -> str:
        """Hash of what was indexed: equal for equal documents in equal order."""
        return self.files["documents.jsonl"].sha256[:16]


def files_of(folder: Path) -> dict[str, FileNote]:
    """Every file below ``folder`` with size and hash."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): _note(path) for path in found}


def _note(path: Path) -> FileNote:
    with path.open("rb") as file:
        return FileNote(bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the index in ``folder``; ``ScenarioError`` when there is none or another version's."""
    path = folder / MANIFEST
    again = f"build it again: sparring index build SOURCE --to {folder} --replace"
    try:
        raw = path.read_bytes()
    except OSError:
        raise ScenarioError(f"{folder} is no index (no {MANIFEST}); make one: sparring index build SOURCE") from None
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        said = f"{'.'.join(map(str, fault['loc'])) or 'manifest'}: {fault['msg']}"
        raise ScenarioError(f"{path} is damaged ({said}); {again}") from None
    if manifest.format != FORMAT:
        raise ScenarioError(f"{folder} has index format {manifest.format}, this Sparring reads {FORMAT}; {again}")
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare every file with the manifest; raises ``ScenarioError`` that names the first that differs."""
    for name, noted in manifest.files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        same = size == noted.bytes and (noted.bytes > HASHED or _note(path) == noted)
        if not same:
            what = "missing" if size is None else f"not what was written ({size} bytes, {noted.bytes} noted)"
            raise ScenarioError(
                f"the index {folder} is damaged: {name} is {what}; build it again:"
                f" sparring index build {manifest.source} --to {folder} --replace"
            )
