"""A scenario's references to parts: is the name known, are the options what the part's ``Config`` allows.

Parts are found through the registries, so nothing above this folder is imported by name. A part's module is imported
to read its ``Config``; it should import heavy libraries where it uses them, so that a check stays quick.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from .explain import explain, keys_of
from .problems import KeyPath, Problems, unknown
from .registry import Registry
from .schema import Ref


def known_part(registry: Registry[Any], name: str, path: KeyPath, problems: Problems) -> bool:
    """Whether the registry knows ``name``, without importing it; otherwise a problem is noted."""
    if name in registry.names():
        return True
    at = (*path, "kind") if problems.sources.written((*path, "kind")) else path
    problems.add(at, unknown(registry.kind.replace("_", " "), name, registry.names()))
    return False


def part(registry: Registry[Any], name: str, path: KeyPath, problems: Problems) -> Any:
    """The part itself, imported; ``None`` and a problem when it is unknown or cannot be imported."""
    if not known_part(registry, name, path, problems):
        return None
    try:
        return registry.get(name)
    except Exception as error:  # a plug-in's module may raise anything
        kind = registry.kind.replace("_", " ")
        problems.add(path, f"the {kind} {name!r} cannot be imported: {type(error).__name__}: {error}")
        return None


R = TypeVar("R", bound=Ref)


def filled(registry: Registry[Any], ref: R, path: KeyPath, problems: Problems) -> R:
    """``ref`` with its part's defaults filled in; what its ``Config`` refuses becomes problems."""
    config = getattr(part(registry, ref.kind, path, problems), "Config", None)
    if not (isinstance(config, type) and issubclass(config, BaseModel)):
        return ref
    open_ended = config.model_config.get("extra") == "allow"
    strangers = [] if open_ended else [key for key in ref.options if key not in keys_of(config)]
    for key in strangers:
        own = [name for name in keys_of(type(ref)) if name != "options"]
        problems.add((*path, key), unknown(f"option of {ref.kind!r}", key, [*own, *keys_of(config)]))
    options = {key: value for key, value in ref.options.items() if key not in strangers}
    try:
        made = config.model_validate(options)
        return ref.model_copy(update={"options": made.model_dump(mode="json", by_alias=True)})
    except ValidationError as error:
        explain(error, config, options, path, problems)
    except Exception as error:  # a plug-in's validator may raise anything
        problems.add(path, f"the options of {ref.kind!r} cannot be checked: {type(error).__name__}: {error}")
    return ref


def run_user_files(names: Sequence[Any], base: Path, problems: Problems) -> None:
    """Import a scenario's own ``load:`` files, each once per process, so that their decorators register parts."""
    for index, name in enumerate(names):
        if not isinstance(name, str):
            continue  # told when the scenario's shape is checked
        file = (base / name).resolve()
        if file.suffix != ".py" or not file.is_file():
            problems.add(("load", index), f"found {name!r}; a Python file is needed, and {file} is none")
            continue
        module_name = f"sparring_user_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
        if module_name not in sys.modules:
            _import(module_name, file, ("load", index), problems)


def _import(module_name: str, file: Path, path: KeyPath, problems: Problems) -> None:
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        problems.add(path, f"{file} cannot be imported")
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # before running: pickling and dataclasses look the module up by name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a user's file may raise anything
        del sys.modules[module_name]
        line = next(
            (f.lineno for f in reversed(traceback.extract_tb(error.__traceback__)) if f.filename == str(file)), 0
        )
        line = getattr(error, "lineno", None) or line
        problems.add(path, f"{file}:{line}: {type(error).__name__}: {error}")
