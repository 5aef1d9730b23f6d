"""The options of the code environment, whatever its mode."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

ModeName = Literal["predict_output", "find_input", "write_program", "function", "repair", "notebook"]


class CodeOptions(BaseModel):
    """``mode``: what is asked; each mode says which of the other options it reads.

    ``tries``: scored answers per episode. ``max_chars``/``max_output``: longest program and output admitted.
    ``score``: ``all`` tests must pass, or the ``share`` of hidden ones that do. ``tolerance``: relative and absolute
    difference up to which floats are the same. ``numbers``: ``exact``, or ``equal``, under which 2.0 stands for 2.
    ``shown``/``hidden``: examples a generated task shows and keeps back. ``max_calls``: cells before a notebook ends;
    ``max_result``: longest observation of one. ``wall_s``, ``cpu_s``, ``memory_mb``: what one program may use.
    ``reserved``: task keys that proposals may not repeat. ``rubric``: with ``trace``, every ``predict_output`` task
    brings criteria along: the answer, what each line sets, and a penalty for answering without working.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    mode: ModeName = "predict_output"
    tries: int = Field(2, ge=1)
    max_chars: int = Field(400, ge=10)
    max_output: int = Field(80, ge=1)
    score: Literal["all", "share"] = "all"
    tolerance: float = Field(1e-6, ge=0)
    numbers: Literal["exact", "equal"] = "exact"
    shown: int = Field(3, ge=1, le=5)
    hidden: int = Field(3, ge=1, le=5)
    max_calls: int = Field(4, ge=1)
    max_result: int = Field(2000, ge=10)
    sandbox: Literal["auto", "namespaces", "landlock", "compute-only", "none"] = "auto"
    workers: int = Field(2, ge=1)
    wall_s: float = Field(2.0, gt=0)
    cpu_s: float = Field(1.0, gt=0)
    memory_mb: int = Field(256, ge=64)
    reserved: tuple[str, ...] = ()
    rubric: Literal["none", "trace"] = "none"

    @model_validator(mode="after")
    def _traced(self) -> CodeOptions:
        if self.rubric == "trace" and self.mode != "predict_output":
            raise ValueError(f"rubric: trace is for mode: predict_output; tasks of {self.mode} have no trace")
        return self
