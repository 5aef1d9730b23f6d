"""Preference optimisation on pairs of what was played."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..losses.preference import Preference
from .base import Made, Played
from .pairs import VISITS, Pairing, find, paired
from .picks import check_names
from .policy_gradient import MAIN

if TYPE_CHECKING:
    from sparring.scenarios.schema import Scenario

    from ..losses.base import Loss


class PreferencePairs:
    """Preference pairs: the better of two turns is made likelier than the worse, relative to a reference.

    L = -log sigmoid(beta h), h = log-ratio pi / reference of chosen - log-ratio of rejected. ``form`` hinge: max(0, 1 -
    beta h); ipo: (h - 1 / (2 beta))^2, means over tokens in h for sums; simpo: -log sigmoid(beta h - margin) with mean
    log pi in h and no reference.
    Source: DPO, arXiv 2305.18290; hinge 2305.10425; ipo 2310.12036; simpo 2405.14734; on the steps of a tree, arXiv
    2405.00451; Step-DPO, arXiv 2406.18629.
    Gradient: beta sigmoid(-beta h) times the gradient of the rejected log-prob less the chosen one's.
    """

    class Config(Pairing, Preference.Config):
        """The options of the pairs and of the loss side by side; no option is in both."""

    def __init__(self, config: Config, scenario: Scenario) -> None:
        check_names(config, scenario)
        self.config = config
        own = config.model_dump(include=set(Preference.Config.model_fields))
        self.losses: Mapping[str, Loss] = {MAIN: Preference(Preference.Config.model_validate(own))}

    def make(self, played: Played) -> Made:
        """Two rows per pair in one unit; a role's coefficients add up to its weight."""
        return paired(find(played, self.config, self.config.smoothing == VISITS), played.roles, MAIN)
