"""How far a share that was found in one stretch of traffic can be trusted.

Waits come in bunches: a hundred checkouts that queued behind one long report say little more than one. So the
uncertainty comes from a circular block bootstrap (Politis and Romano 1992) over time. For a share, its variance is
the variance of all block sums, so nothing needs to be drawn. The number of checkouts that would be as uncertain if
they were independent then gives Wilson's interval (1927), which is right for rare events and for none at all (the
method of Korn and Graubard, "Confidence intervals for proportions with small expected number of positive counts
estimated from survey data", 1998, with Wilson's interval in place of the binomial one).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Z = 1.959964
"""Intervals hold in 95 of 100 cases."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share between 0 and 1, with the interval that holds the true one in 95 of 100 cases."""

    value: float
    low: float
    high: float
    effect: float
    """How many checkouts weigh as much as one independent one (the design effect), 1 or more."""
    block: int
    """The length of a block, in cells of the series."""


def estimate(hits: Sequence[int], totals: Sequence[int], effect: float = 1.0) -> Estimate:
    """Estimate the share of ``hits`` in ``totals``, both counted in equally long cells of time, one after another.

    ``effect`` is the design effect to assume where the series cannot tell: when all or none are hits.
    """
    total, hit = sum(totals), sum(hits)
    if not total:
        return Estimate(0.0, 0.0, 1.0, effect, 1)
    value = hit / total
    block = 1
    if 0 < hit < total:
        # The ratio of two sums varies, in the first order, as the sum of these residuals (the delta method).
        residuals = [number - value * of for number, of in zip(hits, totals, strict=True)]
        block = block_length(residuals)
        effect = max(1.0, _variance_of_sum(residuals, block) / (total * value * (1 - value)))
    low, high = wilson(value, total / effect)
    return Estimate(value, low, high, effect, block)


def wilson(value: float, number: float) -> tuple[float, float]:
    """Return Wilson's interval for a share of ``value`` among ``number`` independent cases."""
    square = Z * Z / number
    middle = (value + square / 2) / (1 + square)
    half = Z / (1 + square) * math.sqrt(value * (1 - value) / number + square / (4 * number))
    return max(0.0, min(value, middle - half)), min(1.0, max(value, middle + half))


def block_length(series: Sequence[float]) -> int:
    """Return how long blocks of ``series`` must be so that bunches stay whole.

    Politis and White, "Automatic block-length selection for the dependent bootstrap" (2004), as corrected by Patton,
    Politis and White (2009), for the circular bootstrap.
    """
    number = len(series)
    mean = sum(series) / number
    centred = [value - mean for value in series]
    variance = sum(value * value for value in centred) / number
    if number < 8 or variance <= 0:
        return 1
    longest = math.ceil(min(3 * math.sqrt(number), number / 3))
    run = max(5, math.ceil(math.sqrt(math.log10(number))))
    lags = min(number - 1, math.ceil(math.sqrt(number)) + run)
    covariances = [variance]
    for lag in range(1, lags + 1):
        products = zip(centred, centred[lag:], strict=False)
        covariances.append(sum(one * other for one, other in products) / number)
    window = _window(covariances, run, 2 * math.sqrt(math.log10(number) / number))
    spread = level = 0.0
    for lag in range(-window, window + 1):
        distance = abs(lag) / window
        weight = 1.0 if distance <= 0.5 else 2 * (1 - distance)
        spread += weight * abs(lag) * covariances[abs(lag)]
        level += weight * covariances[abs(lag)]
    if not level:
        return longest
    best = math.cbrt(1.5 * (spread / level) ** 2 * number)
    return max(1, min(longest, math.ceil(best)))


def _window(covariances: Sequence[float], run: int, negligible: float) -> int:
    """Return twice the lag after which ``run`` correlations in a row are negligible, within the lags there are."""
    last = len(covariances) - 1
    quiet = 0
    for lag in range(1, last + 1):
        quiet = quiet + 1 if abs(covariances[lag]) < negligible * covariances[0] else 0
        if quiet == run:
            return min(last, max(1, 2 * (lag - run)))
    return last


def _variance_of_sum(residuals: Sequence[float], block: int) -> float:
    """Return the variance of the sum of a bootstrap sample made of circular blocks."""
    number = len(residuals)
    mean = sum(residuals) / number
    around = [residual - mean for residual in residuals]
    total = sum(around[:block])
    squares = 0.0
    for position in range(number):
        squares += total * total
        total += around[(position + block) % number] - around[position]
    return squares / block
