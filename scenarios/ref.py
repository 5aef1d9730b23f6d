"""The base of every scenario model, and ``Ref``: a part by name with its options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Strict, model_serializer, model_validator

Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Flag = Annotated[bool, Strict()]


class Spec(BaseModel):
    """Base of every scenario model: frozen, unknown keys refused, no inf or nan."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


def with_kind(key: str, part: Any) -> Any:
    """``part`` with ``kind: key`` where it has none: what stands under a name of its own is of that kind."""
    if part is None:
        return {"kind": key}
    if isinstance(part, Mapping) and part.get("kind") is None:
        return {**part, "kind": key}
    return part


class Ref(Spec):
    """A part by name. In YAML a string, or a mapping with ``kind`` and the part's options flat beside it."""

    kind: str = Field(min_length=1)
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"kind": value}
        if not isinstance(value, Mapping):
            raise ValueError("a part's name, or a mapping with kind: and its options, is needed")
        if set(value) <= set(cls.model_fields) and isinstance(value.get("options"), dict):
            return dict(value)
        own = {key: item for key, item in value.items() if key in cls.model_fields and key != "options"}
        return {**own, "options": {key: item for key, item in value.items() if key not in own}}

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"kind": self.kind, **self.options}


def located(ref: Ref, base: Path) -> Ref:
    """The reference with an option called ``path`` made to start from ``base``, the scenario's folder."""
    path = ref.options.get("path")
    if not isinstance(path, str) or not path:
        return ref
    return ref.model_copy(update={"options": {**ref.options, "path": str(base / path)}})
