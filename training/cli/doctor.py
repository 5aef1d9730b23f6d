"""``doctor``: whether this machine can run Sparring, one line per finding."""

from __future__ import annotations

import json
import os
import platform
import struct
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from sparring.scenarios.errors import SandboxUnavailable, SparringError

from .options import DATABASE, AsJson, Db
from .output import console, print_json

PACKAGES = ("torch", "transformers", "langgraph", "gymnasium", "sqlalchemy")


class Finding(NamedTuple):
    """One line: ``ok`` is ``None`` where there is nothing to judge."""

    what: str
    ok: bool | None
    told: str


def doctor(
    deep: Annotated[
        bool, typer.Option("--deep", help="Also load the built-in model and compare engine and model.")
    ] = False,
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Check this machine: packages, cores, sandbox, database, built-in model. Leaves with 1 when something is wrong."""
    found = [*_machine(), *_packages(), *_engines(), *_sandbox(), _database(db), _model(), *(_deep() if deep else ())]
    if as_json:
        print_json([finding._asdict() for finding in found])
    else:
        screen = console()
        for what, ok, told in found:
            sign, style = {True: ("ok", "green"), False: ("no", "red"), None: ("--", "dim")}[ok]
            screen.print(f"[{style}]{sign}[/] {what:<22} ", end="")
            screen.print(told, markup=False, soft_wrap=True)
    if any(finding.ok is False for finding in found):
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Put this command on ``app``."""
    app.command("doctor")(doctor)


def _machine() -> Iterator[Finding]:
    yield Finding("python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("cores", None, f"{cores} usable")


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            yield Finding(name, True, version(name))
        except PackageNotFoundError:
            yield Finding(name, False, f"is not installed: pip install {name}")


def _engines() -> Iterator[Finding]:
    """What could sample; the embedded engine always can, so nothing missing here is a fault."""
    from sparring.training.engines.vllm import installed, judgement

    yield Finding("engine vllm", True if installed() else None, judgement())
    for name, extra in (("openai", "httpx"), ("serve", "uvicorn")):
        there = find_spec(extra) is not None
        told = "works" if there else f"needs {extra}: pip install 'sparring[{name}]'"
        yield Finding("sparring serve" if name == "serve" else f"engine {name}", there or None, told)


def _sandbox() -> Iterator[Finding]:
    """Each tier; one is enough, so a missing one is no fault as long as another passes."""
    from sparring.envs.code.sandbox import AUTO, Sandbox

    reasons: dict[str, str] = {}
    for tier in AUTO:
        try:
            Sandbox(tier, 1).close()
        except SandboxUnavailable as error:
            lines = str(error).splitlines()
            reasons[tier] = next((line.strip() for line in lines if line.startswith("  ")), lines[0])
    for tier in AUTO:
        wrong = False if len(reasons) == len(AUTO) else None
        yield Finding(f"sandbox {tier}", wrong if tier in reasons else True, reasons.get(tier, "passes its self-test"))


def _database(db: str | None) -> Finding:
    from sparring.storage.schema import HEAD, schema_version

    if "://" in (db or "") and not str(db).startswith("sqlite"):
        return _server(str(db))
    path = Path((db or DATABASE).removeprefix("sqlite:///"))
    try:
        stamped = schema_version(path)
    except SparringError as error:
        return Finding("database", False, str(error))
    if stamped is None:
        return Finding("database", None, f"{path} is not there yet; the first run makes it (schema {HEAD})")
    size = path.stat().st_size / 1e6
    return Finding("database", stamped <= HEAD, f"{path}, schema {stamped} (newest known {HEAD}), {size:.1f} MB")


def _server(url: str) -> Finding:
    """A database on a server: whether it answers, and with which schema."""
    from sparring.storage.database import stamp_of
    from sparring.storage.schema import HEAD

    try:
        name, stamped = stamp_of(url)
    except SparringError as error:
        return Finding("database", False, str(error))
    if stamped is None:
        return Finding("database", None, f"{name} is empty; the first run makes its tables (schema {HEAD})")
    return Finding("database", stamped <= HEAD, f"{name}, schema {stamped} (newest known {HEAD})")


def _model() -> Finding:
    """The built-in model, read as far as its header: no model library is needed for that."""
    from sparring.training.tiny import FOLDER

    weights = FOLDER / "model.safetensors"
    try:
        kind = json.loads((FOLDER / "config.json").read_text())["model_type"]
        with weights.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        tensors = [header[name]["shape"] for name in header if name != "__metadata__"]
    except (OSError, ValueError, LookupError, struct.error) as error:
        return Finding("built-in model", False, f"{FOLDER} cannot be read: {error}; install Sparring again")
    return Finding("built-in model", True, f"{kind}, {sum(map(prod, tensors)):,} parameters in {FOLDER}")


def _deep() -> Iterator[Finding]:
    import torch

    from sparring.scenarios.schema import PolicySpec
    from sparring.training.engines.embedded import TransformersEngine
    from sparring.training.policy import load_policy

    from .running import hush

    hush()
    gpus = torch.cuda.device_count()
    yield Finding("torch", True, f"{torch.__version__}, {torch.get_num_threads()} threads, {gpus} GPUs")
    try:
        policy = load_policy(PolicySpec(), Path.cwd())
        gap = TransformersEngine(policy.model, policy.renderer.stop_ids).decoder.verify()
    except SparringError as error:
        yield Finding("engine", False, str(error))
    else:
        yield Finding("engine", True, f"agrees with the model within {gap:.1e} nats")
