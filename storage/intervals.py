"""Means over runs with their 95 % intervals, and the interval of a difference. Pure arithmetic on a few numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, variance

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A ``mean`` of ``n`` runs and where its true value lies with 95 % confidence; no bounds where n is 1."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def half(self) -> float | None:
        """Half its width."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def mean_interval(values: Sequence[float]) -> Interval:
    """Student's t interval of the mean: mean +- t(n - 1) s / sqrt(n).

    >>> mean_interval([1.0, 2.0, 3.0]).half
    2.484...
    """
    middle, n = fmean(values), len(values)
    if n < 2:
        return Interval(middle, None, None, n)
    half = t_quantile(n - 1) * math.sqrt(variance(values) / n)
    return Interval(middle, middle - half, middle + half, n)


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> tuple[Interval, str]:
    """Second minus first, of values by seed, and how its interval was found.

    The same seeds on both sides are pairs: the t interval of their differences. Otherwise Welch's, with the degrees of
    freedom of Welch and Satterthwaite. ``n`` is the smaller number of runs.
    """
    if first.keys() == second.keys():
        found = mean_interval([second[seed] - first[seed] for seed in sorted(first)])
        return found, "paired by seed" if found.n > 1 else "one seed, no interval"
    one, two = list(first.values()), list(second.values())
    middle, n = fmean(two) - fmean(one), min(len(one), len(two))
    if n < 2:
        return Interval(middle, None, None, n), "one run on a side, no interval"
    parts = variance(one) / len(one), variance(two) / len(two)
    total = math.fsum(parts)
    if total == 0:
        return Interval(middle, middle, middle, n), "Welch"
    freedom = total**2 / (parts[0] ** 2 / (len(one) - 1) + parts[1] ** 2 / (len(two) - 1))
    half = t_quantile(freedom) * math.sqrt(total)
    return Interval(middle, middle - half, middle + half, n), "Welch"


@lru_cache(maxsize=512)
def t_quantile(freedom: float, level: float = LEVEL) -> float:
    """The t for which a Student variable of ``freedom`` > 0 lies within +-t with probability ``level``.

    >>> round(t_quantile(2), 4), round(t_quantile(30), 4)
    (4.3027, 2.0423)
    """
    low, high = 0.0, 1.0
    while _within(high, freedom) < level:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return (low + high) / 2


def _within(t: float, freedom: float) -> float:
    """P(|T| < t): 1 - I_x(freedom / 2, 1 / 2) with x = freedom / (freedom + t^2), I the regularised incomplete beta."""
    return 1.0 - _beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def _beta(x: float, a: float, b: float) -> float:
    """I_x(a, b) by Lentz's continued fraction; DLMF 8.17.22."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    tiny = 1e-300
    c, d = 1.0, 1.0 / max(tiny, 1.0 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 400):
        for factor in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / (1.0 + factor * d or tiny)
            c = 1.0 + factor / c or tiny
            value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return front * value
