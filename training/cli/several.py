"""One command on several processes: rank 0 runs it, the others hold shards of the policy and follow."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import typer

from sparring.scenarios.errors import SparringError
from sparring.training.ranks import follow, joined

from .running import hush
from .stopping import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable


def take_part(app: Callable[[], None]) -> None:
    """Run ``app`` on rank 0. On the others, do what rank 0 says; a signal to stop is for rank 0 to act on."""
    with joined() as ranks:
        if ranks.rank == 0:
            app()
            return
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        hush()
        from sparring.training.course import follower

        try:
            follow(ranks, follower)
        except SparringError as error:
            typer.echo(f"rank {ranks.rank}: {error}", err=True)
            raise SystemExit(error.exit_code) from None
