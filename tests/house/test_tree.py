"""The repository's own rules: the five folders, lengths, words that do not belong, the changelog."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("agents", "envs", "scenarios", "storage", "training")
TEXT = {".py", ".md", ".yaml", ".jsonl", ".toml", ".txt", ""}
# written in pieces so that this file does not hold what it forbids
BANNED = [
    "TO" + "DO", "FIX" + "ME", "(?<!self)/ro" + "ot/", "/wo" + "rk/", "/home/" + r"\w", "/opt/" + r"\w",
    "pypi" + r"\.org", r"download\.pyto" + r"rch\.org", "index" + "-url", "breakpoint" + r"\(", r"\bpdb" + r"\.",
]  # fmt: skip


def code() -> Iterator[Path]:
    """Every Python file of the five folders, tools and benchmarks."""
    for folder in (*FOLDERS, "tools", "benchmarks"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def texts() -> Iterator[Path]:
    """Every text file people wrote."""
    top = (path for path in sorted(ROOT.iterdir()) if path.name != ".git")  # a linked work tree's names its home
    yield from (path for path in top if path.is_file() and path.suffix in TEXT)
    for folder in (*FOLDERS, "tools", "benchmarks", "tests", "docs", ".ci", ".src/sparring"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix in TEXT and "__pycache__" not in path.parts:
                yield path


@pytest.mark.parametrize("folder", FOLDERS)
def test_package_links_point_at_the_folders_people_see(folder: str) -> None:
    link = ROOT / ".src" / "sparring" / folder
    assert link.is_symlink()
    assert str(link.readlink()) == f"../../{folder}"
    assert link.resolve() == ROOT / folder


def test_no_function_is_longer_than_sixty_lines() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {lines} lines"
        for path in code()
        if "migrations" not in path.parts  # generated from the tables
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > 60
    ]
    assert long == []


def test_no_file_is_longer_than_five_hundred_lines() -> None:
    long = [f"{path.relative_to(ROOT)}: {n}" for path in code() if (n := len(path.read_text().splitlines())) > 500]
    assert long == []


def test_every_module_opens_with_what_lives_there() -> None:
    assert [str(path) for path in code() if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_no_file_holds_a_banned_word_or_a_machine_path() -> None:
    pattern = re.compile("|".join(BANNED))
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in texts()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def test_nobody_imports_a_folder_under_its_bare_name() -> None:
    # agents, envs ... are other people's packages; ours are sparring.agents, sparring.envs
    bare = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (*code(), *sorted((ROOT / "tests").rglob("*.py")))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        if getattr(node, "level", 0) == 0 and name.partition(".")[0] in FOLDERS
    ]
    assert bare == []


def test_no_catch_all_names() -> None:
    names = [path for path in code() if path.stem in {"utils", "util", "helpers", "helper", "common", "misc"}]
    classes = [
        f"{path.name}: {node.name}"
        for path in code()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and re.search(r"(Manager|Handler|Helper)$", node.name)
    ]
    assert (names, classes) == ([], [])


def test_changelog_has_an_unreleased_part_with_entries() -> None:
    _, _, rest = (ROOT / "CHANGELOG.md").read_text().partition("## Unreleased")
    assert re.search(r"^- \w", rest.partition("\n## ")[0], re.MULTILINE)


def test_constraints_are_names_and_exact_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9.-]+==[0-9][0-9a-z.]*", line)] == []
    assert lines == sorted(lines, key=lambda line: line.split("==")[0])
    assert any(line.startswith("torch==") for line in lines)
