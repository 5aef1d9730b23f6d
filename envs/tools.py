"""Tools: typed Python functions a role may call. Signatures become JSON Schema; arguments are checked first."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from sparring.scenarios.errors import ContractBroken
from sparring.scenarios.registry import nearest


class ToolRefused(ValueError):
    """The call does not fit the tool; the text is meant for the caller, a model, to read."""


@dataclass(frozen=True)
class Tool:
    """A function with a name, a sentence and a schema. ``schema`` is JSON Schema of one object of arguments."""

    name: str
    description: str
    schema: Mapping[str, Any]
    function: Callable[..., Any]
    _model: type[BaseModel]

    @property
    def line(self) -> str:
        """How a prompt shows it: name, arguments, sentence."""
        arguments = ", ".join(f"{name}: {_kind(about)}" for name, about in self.schema.get("properties", {}).items())
        return f"{self.name}({arguments}): {self.description}"

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the function as written in Python, unchecked."""
        return self.function(*arguments, **named)

    def call(self, arguments: Mapping[str, Any]) -> Any:
        """Check ``arguments`` and call; raises ``ToolRefused`` that names every argument at fault."""
        if not isinstance(arguments, Mapping):
            raise ToolRefused(f"{self.name}: arguments must be an object, got {type(arguments).__name__}")
        try:
            checked = self._model.model_validate(dict(arguments))
        except ValidationError as error:
            raise ToolRefused(f"{self.name}: {self._faults(error)}") from None
        return self.function(**{name: getattr(checked, name) for name in self._model.model_fields})

    def _faults(self, error: ValidationError) -> str:
        faults = []
        for fault in error.errors(include_url=False):
            where = ".".join(str(part) for part in fault["loc"]) or "arguments"
            text = f"{where}: {fault['msg']}"
            if fault["type"] == "extra_forbidden":
                hint = nearest(where, list(self._model.model_fields))
                text = f"{where}: no such argument" + (f"; did you mean {hint}?" if hint else "")
            faults.append(text)
        return "; ".join(faults)


def _kind(about: Mapping[str, Any]) -> str:
    kind = str(about.get("type", "any"))
    return f"{kind} = {about['default']!r}" if "default" in about else kind


def tool(function: Callable[..., Any]) -> Tool:
    """Make a tool of a function. Every parameter needs a type; the docstring's first line is what a model reads.

    >>> @tool
    ... def add(a: int, b: int = 1) -> int:
    ...     "Add two numbers."
    ...     return a + b
    >>> add.call({"a": 2}), add.schema["required"]
    (3, ['a'])
    """
    name = function.__name__
    lines = (inspect.getdoc(function) or "").splitlines()
    if not lines:
        raise ContractBroken(f"tool {name}: it needs a docstring; its first line is what a model reads")
    hints = get_type_hints(function)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ContractBroken(f"tool {name}: parameter {parameter.name!r} must be an ordinary named one")
        if parameter.name not in hints:
            raise ContractBroken(f"tool {name}: parameter {parameter.name!r} has no type annotation")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    # strict: a model that sends "3" for a number is told so, not silently understood
    model = create_model(name, __config__=ConfigDict(extra="forbid", strict=True), **fields)
    return Tool(name, lines[0], model.model_json_schema(), function, model)
