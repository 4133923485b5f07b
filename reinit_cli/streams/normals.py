"""Compute probabilities of normal distributions."""

from __future__ import annotations

import math


def normal_mass(alpha: float, beta: float) -> float:
    """Return the probability that a standard normal lies between two bounds, exact in both tails."""
    if alpha > 0:
        alpha, beta = -beta, -alpha
    return 0.5 * (math.erfc(-beta / math.sqrt(2.0)) - math.erfc(-alpha / math.sqrt(2.0)))
