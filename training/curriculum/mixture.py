"""Gaussian mixtures with full covariances, fitted by expectation-maximisation and chosen by AIC.

Nothing is drawn at random: equal points give equal mixtures. Points are meant to lie in about the unit cube.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

FLOOR = 1e-4  # added to variances: 0.01 of a range is as narrow as a component gets
ROUNDS = 100
STILL = 1e-3  # nats per point by which a round must raise the likelihood, or it was the last


@dataclass(frozen=True)
class Mixture:
    """Components K in D dimensions: ``weight_K``, ``mean_KD``, ``covariance_KDD``."""

    weight_K: np.ndarray
    mean_KD: np.ndarray
    covariance_KDD: np.ndarray

    def logs(self, point_SD: np.ndarray) -> np.ndarray:
        """Log of weight times density: points by components."""
        found = []
        for weight, mean, covariance in zip(self.weight_K, self.mean_KD, self.covariance_KDD, strict=True):
            root = np.linalg.cholesky(covariance)
            offset_DS = np.linalg.solve(root, (point_SD - mean).T)
            volume = mean.size * math.log(2 * math.pi) + 2 * float(np.log(np.diag(root)).sum())
            found.append(math.log(weight) - 0.5 * (volume + (offset_DS**2).sum(0)))
        return np.stack(found, 1)

    def likelihood(self, point_SD: np.ndarray) -> float:
        """Log-likelihood of all points together."""
        return float(np.logaddexp.reduce(self.logs(point_SD), axis=1).sum())

    def aic(self, point_SD: np.ndarray) -> float:
        """Akaike's criterion: twice the number of free parameters less twice the log-likelihood. Lower is better."""
        components, dimensions = self.mean_KD.shape
        free = components * (1 + dimensions + dimensions * (dimensions + 1) // 2) - 1
        return float(2 * free - 2 * self.likelihood(point_SD))

    def to_json(self) -> dict[str, Any]:
        """Plain lists."""
        return {"weight": self.weight_K.tolist(), "mean": self.mean_KD.tolist(), "cov": self.covariance_KDD.tolist()}

    @classmethod
    def of_json(cls, data: dict[str, Any]) -> Mixture:
        """What ``to_json`` gave, bit for bit."""
        return cls(np.array(data["weight"]), np.array(data["mean"]), np.array(data["cov"]))


def best(point_SD: np.ndarray, components: Iterable[int]) -> Mixture:
    """Of the mixtures with so many components, the one with the lowest AIC."""
    return min((fit(point_SD, count) for count in components), key=lambda mixture: mixture.aic(point_SD))


def fit(point_SD: np.ndarray, components: int) -> Mixture:
    """Expectation-maximisation from a k-means start; fewer components where points coincide."""
    share_SK = _start(point_SD, components)
    mixture, before = _maximised(point_SD, share_SK), -math.inf
    for _ in range(ROUNDS):
        log_SK = mixture.logs(point_SD)
        total_S = np.logaddexp.reduce(log_SK, axis=1)
        if total_S.mean() - before < STILL:
            break
        before = float(total_S.mean())
        mixture = _maximised(point_SD, np.exp(log_SK - total_S[:, None]))
    return mixture


def _maximised(point_SD: np.ndarray, share_SK: np.ndarray) -> Mixture:
    count_K = share_SK.sum(0)
    share_SK, count_K = share_SK[:, count_K > 1e-6], count_K[count_K > 1e-6]  # nobody's component is none
    mean_KD = share_SK.T @ point_SD / count_K[:, None]
    offset_SKD = point_SD[:, None] - mean_KD
    covariance_KDD = np.einsum("sk,ski,skj->kij", share_SK, offset_SKD, offset_SKD) / count_K[:, None, None]
    return Mixture(count_K / count_K.sum(), mean_KD, covariance_KDD + FLOOR * np.eye(point_SD.shape[1]))


def _start(point_SD: np.ndarray, components: int) -> np.ndarray:
    """Whose each point is, as one-hot shares: k-means from centres that lie as far apart as points do."""
    first = int(np.argmin(_distances(point_SD, point_SD.mean(0, keepdims=True))[:, 0]))
    centre_KD = point_SD[[first]]
    while len(centre_KD) < components:
        apart_S = _distances(point_SD, centre_KD).min(1)
        if apart_S.max() == 0:
            break
        centre_KD = np.concatenate([centre_KD, point_SD[[int(apart_S.argmax())]]])
    for _ in range(20):
        whose_S = _distances(point_SD, centre_KD).argmin(1)
        met = [point_SD[whose_S == k].mean(0) if (whose_S == k).any() else centre_KD[k] for k in range(len(centre_KD))]
        if np.array_equal(met, centre_KD):
            break
        centre_KD = np.array(met)
    share_SK = np.eye(len(centre_KD))[_distances(point_SD, centre_KD).argmin(1)]
    kept: np.ndarray = share_SK[:, share_SK.any(0)]
    return kept


def _distances(point_SD: np.ndarray, centre_KD: np.ndarray) -> np.ndarray:
    squared: np.ndarray = ((point_SD[:, None] - centre_KD) ** 2).sum(2)
    return squared
