"""Named policy losses that bear stale rows, and those that treat good and bad samples apart.

Each is ``PolicyGradient`` with other defaults; all its options can still be set.
"""

from __future__ import annotations

from pydantic import Field

from .gradient import Denominator
from .kl import Kl
from .policy import Bounds, PolicyGradient
from .ratio import Level
from .stable import Mask


class Topr(PolicyGradient):
    """TOPR: good samples are learnt in full, bad ones fade as the policy leaves them.

    L = -A log pi for A >= 0; -sg[min(pi(y) / pi_old(y), 1)] A log pi for A < 0, the ratio of whole trajectories.
    Source: arXiv 2503.14286.
    Gradient: -A grad log pi, for A < 0 times the truncated trajectory ratio; on policy exactly REINFORCE.
    """

    class Config(PolicyGradient.Config):
        """``denominator`` ``now``, ``level`` ``product``, ``negative_ratio`` [0, 1]."""

        denominator: Denominator = "now"
        level: Level = "product"
        negative_ratio: Bounds = (0.0, 1.0)


class AsymRe(PolicyGradient):
    """AsymRE: a baseline lowered by a little, so that every sample is imitated a little.

    L = -(A + shift) log pi, shift 0.1.
    Source: arXiv 2506.20520; as a REP loss, arXiv 2509.24203.
    Gradient: -(A + shift) grad log pi; the shift alone is that of supervised learning on the old policy's samples.
    """

    class Config(PolicyGradient.Config):
        """``denominator`` ``now``, ``shift`` 0.1."""

        denominator: Denominator = "now"
        shift: float = 0.1


class Opmd(PolicyGradient):
    """OPMD: REINFORCE with a squared tether to the policy that sampled.

    L = -A log pi + tau (log pi - log pi_old)^2 / 2, tau 0.2.
    Source: Kimi k1.5, arXiv 2501.12599; as a REP loss (their coefficient 0.1 has the 1/2 in it), arXiv 2509.24203.
    Gradient: -(A - tau (log pi - log pi_old)) grad log pi; on policy exactly REINFORCE.
    """

    class Config(PolicyGradient.Config):
        """``denominator`` ``now``, ``tether`` 0.2."""

        denominator: Denominator = "now"
        tether: float = Field(default=0.2, ge=0)


class RecOneSide(PolicyGradient):
    """REC-OneSide: REINFORCE that stops where the policy has gone far enough its own way.

    L = -1[stable] A log pi; stable but for A > 0 and r > 1 + high, A < 0 and r < 1 - low.
    Source: arXiv 2509.24203.
    Gradient: -1[stable] A grad log pi; with ``denominator`` ``old`` (importance weights) times r, which is PPO's.
    """

    class Config(PolicyGradient.Config):
        """``denominator`` ``now`` (without importance weights), ``mask`` ``one_side`` at 0.2 and 0.2."""

        denominator: Denominator = "now"
        mask: Mask = "one_side"


class RecTwoSide(PolicyGradient):
    """REC-TwoSide: a token outside the band gets no gradient, whatever its sign.

    L = -1[1 - low <= r <= 1 + high] r A; denominator: now leaves the importance weight r out.
    Source: arXiv 2509.24203.
    Gradient: -1[stable] r A grad log pi; a token that left the band never comes back by its own gradient.
    """

    class Config(PolicyGradient.Config):
        """``mask`` ``two_side`` at 0.2 and 0.2, with importance weights."""

        mask: Mask = "two_side"


class RecRing(PolicyGradient):
    """REC-Ring: the band, and beyond an outer ring the tokens that the update brings back.

    L = -1[stable] A log pi; stable in [1 - low, 1 + high], for A >= 0 below 1 - outer_low, A <= 0 above 1 + outer_high.
    Source: arXiv 2509.24203.
    Gradient: -1[stable] A grad log pi; with ``denominator`` ``old`` times r.
    """

    class Config(PolicyGradient.Config):
        """``denominator`` ``now``, ``mask`` ``ring`` at 0.2 and 0.2 inside, 0.6 and 2 outside."""

        denominator: Denominator = "now"
        mask: Mask = "ring"


class RedWeight(PolicyGradient):
    """RED-Weight: good samples count more, by an exponential of their advantage.

    L = -exp(A / tilt) A log pi, tilt 1.
    Source: arXiv 2509.24203. (RED-Drop drops samples instead, so it is a group stage before REINFORCE.)
    Gradient: -exp(A / tilt) A grad log pi.
    """

    class Config(PolicyGradient.Config):
        """``denominator`` ``now``, ``tilt`` 1."""

        denominator: Denominator = "now"
        tilt: float | None = Field(default=1.0, gt=0)


class Psr(PolicyGradient):
    """PSR: only good samples teach.

    L = -max(A, 0) log pi.
    Source: arXiv 2506.01347.
    Gradient: -A grad log pi for A > 0, else 0: the policy sharpens and loses pass@k.
    """

    class Config(PolicyGradient.Config):
        """``denominator`` ``now``, ``negative`` 0."""

        denominator: Denominator = "now"
        negative: float = Field(default=0.0, ge=0)


class Nsr(PolicyGradient):
    """NSR: only bad samples teach.

    L = -min(A, 0) log pi.
    Source: arXiv 2506.01347.
    Gradient: -A grad log pi for A < 0, else 0: mass goes to the other tokens, by logit in proportion to their own.
    """

    class Config(PolicyGradient.Config):
        """``denominator`` ``now``, ``positive`` 0."""

        denominator: Denominator = "now"
        positive: float = Field(default=0.0, ge=0)


class WReinforce(PolicyGradient):
    """Weighted REINFORCE: bad samples in full, good ones a tenth.

    L = -lambda A log pi for A > 0, -A log pi for A < 0, lambda 0.1.
    Source: arXiv 2506.01347.
    Gradient: -lambda A grad log pi for A > 0, -A grad log pi for A < 0; lambda 0 is NSR.
    """

    class Config(PolicyGradient.Config):
        """``denominator`` ``now``, ``positive`` 0.1."""

        denominator: Denominator = "now"
        positive: float = Field(default=0.1, ge=0)


class Oreal(PolicyGradient):
    """OREAL: good samples are cloned, bad ones pushed away by the ratio, each token by its own weight.

    L = -w A log pi for A > 0; -0.5 w min(r A, clip(r) A) for A < 0; plus 0.01 KL. w is the stream ``weight``, else 1.
    Source: arXiv 2502.06781 and its code; with mean baselines of rewards 0 and 1, |A| of a bad sample is the pass rate.
    Gradient: -w A grad log pi for A > 0; -0.5 w r A grad log pi for A < 0 until r < 1 - low; the KL's is KL(pi || ref).
    """

    class Config(PolicyGradient.Config):
        """``clone``, ``mask`` ``clip`` for A < 0, ``negative`` 0.5, ``kl`` k2 with coefficient 0.01."""

        clone: bool = True
        mask: Mask = "clip"
        negative: float = Field(default=0.5, ge=0)
        kl: Kl | None = Kl(coefficient=0.01)
