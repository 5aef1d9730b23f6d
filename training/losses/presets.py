"""Named policy losses for rows that are trained once or a few times after they were sampled.

Each is ``PolicyGradient`` with other defaults; all its options can still be set. Stale rows: see ``offpolicy``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import Aggregate
from .gradient import Denominator
from .policy import Bounds, PolicyGradient
from .ratio import Level
from .regularisers import Value
from .stable import Mask


class Reinforce(PolicyGradient):
    """REINFORCE: no ratio, no mask; right when rows are trained once, on policy.

    L = -A log pi, mean over tokens.
    Source: Williams 1992.
    Gradient: -A grad log pi.
    """

    class Config(PolicyGradient.Config):
        """``denominator`` ``now``."""

        denominator: Denominator = "now"


class Grpo(PolicyGradient):
    """GRPO: clipped ratio, mean over trajectories of token means.

    L = -min(r A, clip(r, 1 - low, 1 + high) A), r = pi / pi_old; the paper adds kl: {estimate: k3, coefficient: 0.04}.
    Source: arXiv 2402.03300.
    Gradient: -r A grad log pi; 0 where A > 0 and r > 1 + high, or A < 0 and r < 1 - low.
    """

    class Config(PolicyGradient.Config):
        """``mask`` ``clip`` at 0.2 and 0.2, ``aggregate`` ``trajectories``; no KL until ``kl`` is given."""

        mask: Mask = "clip"
        aggregate: Aggregate = "trajectories"


class DrGrpo(PolicyGradient):
    """Dr. GRPO: clipped ratio, divided by one constant, so that length earns nothing.

    L = -min(r A, clip(r, 1 - low, 1 + high) A) / (trajectories x length); its advantage is the mean baseline.
    Source: arXiv 2503.20783.
    Gradient: as GRPO's; a token weighs the same in a short and in a long trajectory.
    """

    class Config(PolicyGradient.Config):
        """``mask`` ``clip``, ``aggregate`` ``constant``; set ``length`` to the most tokens a trajectory may have."""

        mask: Mask = "clip"
        aggregate: Aggregate = "constant"


class Dapo(PolicyGradient):
    """DAPO: PPO's clip with a higher ceiling, mean over tokens.

    L = -min(r A, clip(r, 1 - low, 1 + high) A), low 0.2, high 0.28.
    Source: arXiv 2503.14476.
    Gradient: -r A grad log pi; 0 where A > 0 and r > 1 + high, or A < 0 and r < 1 - low.
    """

    class Config(PolicyGradient.Config):
        """``mask`` ``clip`` at ``low`` 0.2 and ``high`` 0.28: rare tokens have more room to rise."""

        mask: Mask = "clip"
        high: float = Field(default=0.28, gt=0)


class Gspo(PolicyGradient):
    """GSPO: one clipped ratio per trajectory, the geometric mean of its tokens'.

    L = -min(s A, clip(s, 1 - low, 1 + high) A), s = exp(mean over the trajectory of log pi - log pi_old).
    Source: arXiv 2507.18071.
    Gradient: -s A mean(grad log pi) inside the clip; a trajectory is stopped or kept whole, over all its turns.
    """

    class Config(PolicyGradient.Config):
        """``level`` ``sequence``, ``mask`` ``clip`` at 0.0003 and 0.0004, ``aggregate`` ``trajectories``."""

        level: Level = "sequence"
        mask: Mask = "clip"
        low: float = Field(default=3e-4, gt=0, le=1)
        high: float = Field(default=4e-4, gt=0)
        aggregate: Aggregate = "trajectories"


class Cispo(PolicyGradient):
    """CISPO: the ratio is a capped weight, so no token loses its gradient.

    L = -sg[min(r, cap)] A log pi, cap 5, mean over tokens. verl writes the cap as 1 + clip_ratio_high.
    Source: MiniMax-M1, arXiv 2506.13585.
    Gradient: -min(r, cap) A grad log pi.
    """

    class Config(PolicyGradient.Config):
        """``denominator`` ``now``; the ratio weighs between ``positive_ratio`` and ``negative_ratio`` [0, 5]."""

        denominator: Denominator = "now"
        positive_ratio: Bounds = (0.0, 5.0)
        negative_ratio: Bounds = (0.0, 5.0)


class Ppo(PolicyGradient):
    """PPO: clipped ratio and a clipped value head; its advantage is gae.

    L = -min(r A, clip(r, 1 - low, 1 + high) A) + c max((v - R)^2, (clip(v, v_old +- clip) - R)^2) / 2.
    Source: arXiv 1707.06347; the value clip from its code, PPO2.
    Gradient: -r A grad log pi inside the clip, c (v - R) grad v inside the value clip.
    """

    class Config(PolicyGradient.Config):
        """``mask`` ``clip``; ``value`` with coefficient 0.5 and clip 0.2, learnt by the value head."""

        mask: Mask = "clip"
        value: Value | None = Value()


class ReinforcePlusPlus(PolicyGradient):
    """REINFORCE++: PPO's clip without a critic; its advantage takes the KL off the reward and whitens over the batch.

    L = -min(r A, clip(r, 1 - low, 1 + high) A), A from the advantage ``return_to_go`` with its ``kl`` above 0.
    Source: arXiv 2501.03262.
    Gradient: -r A grad log pi inside the clip; the KL acts as reward, so on whole trajectories.
    """

    class Config(PolicyGradient.Config):
        """``mask`` ``clip`` at 0.2 and 0.2; the KL is the advantage's, where it is whitened with the rewards."""

        mask: Mask = "clip"


class Dppo(PolicyGradient):
    """DPPO: a trust region in probability instead of the ratio.

    L = -1[sign(A) (pi - pi_old) <= trust] r A + tether (log pi - log pi_old)^2 / 2, mean over tokens.
    Source: arXiv 2602.04879, binary total variation; trust 0.2 and the squared log-ratio are prime-rl's.
    Gradient: -r A grad log pi inside the region, plus tether (log pi - log pi_old) grad log pi everywhere.
    """

    class Config(PolicyGradient.Config):
        """``mask`` ``probability`` with ``trust`` 0.2; ``tether`` 0.002, prime-rl's 0.001 (log r)^2."""

        mask: Mask = "probability"
        tether: float = Field(default=2e-3, ge=0)


class Shaped(PolicyGradient):
    """A shaped likelihood for text that was inserted: rare tokens of another policy are still learnt.

    L = -A p / (p + gamma), gamma 0.1, mean over tokens; no ratio, no mask.
    Source: Critique-GRPO, arXiv 2506.03106; LUFFY, arXiv 2504.14945.
    Gradient: -A gamma p / (p + gamma)^2 grad log pi, largest at p = gamma.
    """

    class Config(PolicyGradient.Config):
        """``gradient`` ``shaped`` with ``gamma`` 0.1."""

        gradient: Literal["plain", "shaped"] = "shaped"
