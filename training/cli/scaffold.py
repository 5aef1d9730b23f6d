"""``new``: write an environment's package or a scenario to start from. What is written passes ``check`` and trains."""

from __future__ import annotations

import importlib.util
import keyword
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from sparring.scenarios.errors import NameTaken, ScenarioError, SparringError
from sparring.scenarios.registry import environments

TEMPLATES = Path(__file__).parent / "templates"
NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
LONGEST = 40
PACKAGE = {  # where each template of an environment's package goes
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "scenario.yaml": "scenario.yaml",
    "prompt.md": "prompt.md",
    "init.py": "${package}/__init__.py",
    "environment.py": "${package}/environment.py",
    "test.py": "tests/test_${package}.py",
}

Name = Annotated[str, typer.Argument(help="Small letters, digits, - and _; begins with a letter.")]
To = Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where to write it; this folder by default.")]

new = typer.Typer(no_args_is_help=True, help="Write an environment or a scenario to start from.")


@new.command("environment")
def new_environment(name: Name, to: To = Path()) -> None:
    """Write a package with an environment, its test, a scenario and a README; it passes check and trains at once."""
    words = _words(name)
    folder = to / name
    _check_absent(folder)
    _check_free(name, words["package"])
    _write(
        folder,
        {Template(where).substitute(words): _filled(f"environment/{one}", words) for one, where in PACKAGE.items()},
    )
    module = folder / words["package"] / "environment.py"
    typer.echo(f"{folder} holds the environment {name!r}: {module} is the file to change")
    for command, why in (
        (f"sparring check {folder}", "does it keep its contract, does a cheap answer fool it"),
        (f"sparring run {folder / 'scenario.yaml'}", "train on it; -s training.steps=2 for a first look"),
        (f"pytest {folder}", "its test"),
        (f"pip install -e {_as_path(folder)}", "then any scenario may name it"),
    ):
        typer.echo(f"  {command:<48} {why}")


@new.command("scenario")
def new_scenario(name: Name, to: To = Path()) -> None:
    """Write a small scenario with a comment on every line."""
    _words(name)
    file = to / f"{name}.yaml"
    _check_absent(file)
    text = _filled("scenario/scenario.yaml", {"name": name, "file": str(file)})
    _make(to)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _Unwritten(f"{file}: cannot be written: {error.strerror or error}") from error
    typer.echo(f"{file} is a scenario to change")
    typer.echo(f"  {f'sparring check {file}':<48} finds mistakes, creates nothing")
    typer.echo(f"  {f'sparring run {file}':<48} trains")


def add_to(app: typer.Typer) -> None:
    """Put these commands on ``app``."""
    app.add_typer(new, name="new")


class _Taken(NameTaken):
    """What would be written is there already."""

    exit_code = 2


class _Unwritten(SparringError, OSError):
    """The disk refuses."""


def _words(name: str) -> Mapping[str, str]:
    """What stands for ``name`` in a template: itself, its package and its class; raises ``ScenarioError``."""
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise ScenarioError(
            f"{name!r} is no name for it: small letters, digits, - and _ are needed, a letter first, at most {LONGEST}"
        )
    package = name.replace("-", "_")
    return {"name": name, "package": package, "kind": "".join(word.capitalize() for word in package.split("_"))}


def _check_absent(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise _Taken(f"{path} is already there and is left as it is; choose another name, or --to another folder")


def _check_free(name: str, package: str) -> None:
    """Raise when the name would hide something: another environment, or a module that is imported under it."""
    if name in environments.names():
        raise _Taken(f"an environment {name!r} is there already (sparring list environment); choose another name")
    if keyword.iskeyword(package) or package in sys.stdlib_module_names or _importable(package):
        raise _Taken(f"Python already has {package!r}, which the package would hide; choose another name")


def _importable(package: str) -> bool:
    """Whether something else is imported under this name; a folder that only happens to lie here is not."""
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # half a module, of __main__ for one
        return True
    return found is not None and found.origin is not None


def _filled(name: str, words: Mapping[str, str]) -> str:
    return Template((TEMPLATES / f"{name}.txt").read_text(encoding="utf-8")).substitute(words)


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """All files or none: they are written aside and moved into place."""
    _make(folder.parent)
    try:
        aside = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
        try:
            for name, text in files.items():
                file = aside / folder.name / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            (aside / folder.name).rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise _Unwritten(f"{folder}: cannot be written: {error.strerror or error}") from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _Unwritten(f"{folder}: no such folder, and none can be made: {error.strerror or error}") from error


def _as_path(folder: Path) -> str:
    """``pip`` reads a bare word as the name of a package."""
    return str(folder) if folder.is_absolute() or folder.parts[0] == ".." else f"./{folder}"
