"""Every error Sparring raises on purpose, in one tree. A message says what, where, why and the next step.

SparringError
├── ScenarioError (ValueError)         the YAML file, an override or a part's options are wrong
├── UnknownPart (LookupError)          a name no registry knows
├── NameTaken (ValueError)             two parts under one name
├── ContractBroken (TypeError)         a plugged-in part does not keep its contract
├── SandboxUnavailable (RuntimeError)  no isolation tier passes its self-test on this machine
├── EngineError (RuntimeError)         the model folder or the engine cannot be used
├── MissingExtra (ImportError)         an optional dependency is absent
├── StoreError (RuntimeError)
│   ├── SchemaMismatch                 the database was written by another schema version
│   ├── RunBusy                        another process is writing this run
│   ├── RunNotFound (LookupError)      no such run, step or episode
│   └── StorageFull (OSError)          the disk refused the write; the last whole step is safe
└── TrainingStopped (RuntimeError)     the run cannot go on (too many broken rollouts, loss not finite)

A broken rollout is data, not an exception: it is recorded on the episode (see ``sparring.envs.types.Ending``).
"""

from __future__ import annotations


class SparringError(Exception):
    """Base of every error raised on purpose; ``exit_code`` is what the command line returns."""

    exit_code = 1


class ScenarioError(SparringError, ValueError):
    """A scenario file, an override or a part's options are wrong; nothing was created."""

    exit_code = 2


class UnknownPart(SparringError, LookupError):
    """A part was asked for under a name that no registry knows."""

    exit_code = 2


class NameTaken(SparringError, ValueError):
    """Two different parts claim one name."""


class ContractBroken(SparringError, TypeError):
    """A plugged-in part does not keep the contract of its kind."""


class SandboxUnavailable(SparringError, RuntimeError):
    """No isolation tier passes its self-test, and running model-written code without one was not chosen twice."""

    exit_code = 3


class EngineError(SparringError, RuntimeError):
    """The model folder or the engine cannot be used."""

    exit_code = 4


class MissingExtra(SparringError, ImportError):
    """An optional dependency is absent; the message holds the line to type."""

    exit_code = 4


class StoreError(SparringError, RuntimeError):
    """The database cannot be used as asked."""

    exit_code = 5


class SchemaMismatch(StoreError):
    """The database was written by another schema version."""


class RunBusy(StoreError):
    """Another process is writing this run."""


class RunNotFound(StoreError, LookupError):
    """No such run, step or episode in this database."""


class StorageFull(StoreError, OSError):
    """The disk refused the write; the last whole step is safe."""

    exit_code = 75


class TrainingStopped(SparringError, RuntimeError):
    """The run cannot go on."""

    exit_code = 6
