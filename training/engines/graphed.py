"""One decoding step as a recording that is played again: CUDA graphs over fixed buffers, shapes in buckets.

A recording is made when its bucket is first needed and compared with the plain step there before it is trusted. The
capture and replay themselves have not been run on a GPU; everything around them is tested on a CPU, where playing again
means calling again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Drawn = tuple[Tensor, Tensor]  # tokens (S,) and log-probs (S,)
Step = Callable[[int, int], Drawn]
Record = Callable[[Callable[[], Drawn]], Callable[[], Drawn]]
"""Makes a call that can be played again on the same buffers; each playing overwrites what the one before gave."""

ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
ALIGNED = 64  # tokens: kernels want lengths that are a multiple of eight; recordings want few lengths
DIFFER = 0.02  # share of tokens that may differ: another kernel rounds otherwise, and some draws lie on an edge


class Graphed:
    """``step(rows, longest)`` through recordings, until one of them disagrees: then plainly for good.

    Beyond ``rows`` up to its bucket, rows must be idle ones. ``doubt`` is told why recordings are not used.
    """

    def __init__(self, step: Step, record: Record, doubt: Callable[[str], None]) -> None:
        self.step, self.record, self.doubt = step, record, doubt
        self.trusted = True
        self._played: dict[tuple[int, int, bool], Callable[[], Drawn]] = {}

    def __len__(self) -> int:
        """Recordings made so far."""
        return len(self._played)

    def clear(self) -> None:
        """The buffers are others now."""
        self._played.clear()

    def __call__(self, rows: int, longest: int, width: int, length: int, greedy: bool) -> Drawn:
        """Tokens and log-probs of the first ``rows`` of ``width`` slots, in a cache for ``length`` tokens each."""
        if not self.trusted:
            return self.step(rows, longest)
        wide, far = min(width, rows_bucket(rows)), min(length, length_bucket(longest))
        play = self._played.get((wide, far, greedy))
        token_S, logprob_S = self._first(wide, far, greedy, rows) if play is None else play()
        return token_S[:rows], logprob_S[:rows]

    def _first(self, wide: int, far: int, greedy: bool, rows: int) -> Drawn:
        """The plain step, and a recording of it if that says the same. Writing the same keys again changes nothing."""
        token_S, logprob_S = (part.clone() for part in self.step(wide, far))
        try:
            play = self.record(lambda: self.step(wide, far))
            why = disagreement((token_S[:rows], logprob_S[:rows]), play())
        except RuntimeError as error:  # a driver or kernel that cannot be captured: the plain step can still be taken
            why = str(error).splitlines()[0]
        if why:
            self.trusted = False
            self.clear()
            self.doubt(f"decoding steps are not recorded as graphs, which is slower: {why}")
        else:
            self._played[wide, far, greedy] = play
        return token_S, logprob_S


def rows_bucket(rows: int) -> int:
    """The number of rows that is computed where ``rows`` are needed."""
    return ROWS[bisect_left(ROWS, rows)] if rows <= ROWS[-1] else rows


def length_bucket(longest: int) -> int:
    """The length that is read where ``longest`` is needed: at most an eighth too much, or less than ``ALIGNED``.

    >>> length_bucket(1), length_bucket(65), length_bucket(1025), length_bucket(1100)
    (64, 128, 1152, 1152)
    """
    grain = max(ALIGNED, 1 << max(0, (longest - 1).bit_length() - 4))
    return -(-longest // grain) * grain


def disagreement(plain: Drawn, played: Drawn) -> str:
    """What sets the two apart beyond rounding; empty if nothing does."""
    rows = len(plain[0])
    token_S, logprob_S = played[0][:rows], played[1][:rows]
    same_S = plain[0] == token_S
    share = 1 - float(same_S.float().mean())
    gap = float((plain[1] - logprob_S).abs()[same_S].max()) if bool(same_S.any()) else 0.0
    if share > DIFFER or not gap <= 0.05:
        return f"a recording drew {share:.0%} other tokens, and log-probs {gap:.2e} nats apart"
    return ""


class Capture:
    """Records calls as CUDA graphs. They share their memory: what one gave is gone once another is played."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, call: Callable[[], Drawn]) -> Callable[[], Drawn]:
        """``call`` as a graph."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call, unused-ignore]  # torch leaves it untyped
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries allocate in their first calls, which a capture may not contain
            call()
            call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        with torch.cuda.graph(graph, self._pool, capture_error_mode="thread_local"):  # other threads work meanwhile
            drawn = call()

        def play() -> Drawn:
            graph.replay()
            return drawn

        return play
