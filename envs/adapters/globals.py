"""Foreign code draws from the global generators: here each component is lent its own, and the others get theirs back.

Also here: how an optional library is imported, since importing one may draw or seed too.
"""

from __future__ import annotations

import importlib
import random
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from sparring.scenarios.errors import MissingExtra
from sparring.scenarios.seeds import derive

_LENT = threading.RLock()  # the global generators exist once in a process, so one borrower at a time


class Globals:
    """The states of ``random`` and NumPy's legacy generator that belong to one foreign component.

    ``lend`` puts them into the process for one call, takes them back after it and restores what was there. Calls of all
    components wait for one lock, so threads cannot mix their draws; a lent call costs about 0.16 ms more, and foreign
    code runs on one core however many threads play. Code of ours never draws from global generators, and code of others
    that does so from another thread during a call is out of reach. ``numpy.random.default_rng()`` and
    ``random.Random()`` without a seed read the operating system and cannot be owned by anybody.
    """

    def __init__(self, *seed: object) -> None:
        """``seed``: any parts; equal parts give equal draws on every machine."""
        self.seed(*seed)

    def seed(self, *seed: object) -> None:
        """Start again from these parts."""
        number = derive("globals", *seed)
        self._python: Any = random.Random(number).getstate()
        self._numpy: Any = np.random.RandomState(number % 2**32).get_state(legacy=False)

    @contextmanager
    def lend(self) -> Iterator[None]:
        """For the length of this block the process's global generators are this component's."""
        with _LENT:
            outer_python, outer_numpy = random.getstate(), np.random.get_state(legacy=False)
            random.setstate(self._python)
            np.random.set_state(self._numpy)
            try:
                yield
            finally:
                self._python, self._numpy = random.getstate(), np.random.get_state(legacy=False)
                random.setstate(outer_python)
                np.random.set_state(outer_numpy)


def need(module: str, extra: str) -> Any:
    """Import an optional library; raises ``MissingExtra`` with the line to type. Its warnings are its own affair."""
    with Globals("import", module).lend(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(module)
        except ImportError as error:
            missing = f"environment {extra!r} needs the package {module!r} ({error})"
            raise MissingExtra(f"{missing}: pip install 'sparring[{extra}]'") from None
