"""Log-linear histograms of durations, as plain rows of counters.

A bucket is found from the bits of the value alone: the position of the highest bit picks the octave, the
next ``SUB_BITS`` bits the bucket inside it (the scheme of HdrHistogram). All buckets of an octave are equally
wide, so a reported value is off by at most half a bucket: ``RELATIVE_ERROR`` of the true value, or half a
``UNIT`` for the shortest ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableSequence

UNIT_BITS = 10
"""Durations are counted in units of 2**10 ns, about a microsecond."""

UNIT = (1 << UNIT_BITS) / 1e9
"""The finest step that a histogram tells apart, in seconds."""

SUB_BITS = 5
_SUB = 1 << SUB_BITS

OCTAVES = 32
"""Durations up to 2**(OCTAVES + SUB_BITS - 1) units, 19 hours, are told apart; longer ones count as that."""

BUCKETS = OCTAVES * _SUB
RELATIVE_ERROR = 1 / (2 << SUB_BITS)
"""A quantile is at most this share off the true value (1.6 %)."""


def bucket_of(nanoseconds: int) -> int:
    """Return the bucket of a duration in nanoseconds (negative ones count as zero)."""
    units = nanoseconds >> UNIT_BITS if nanoseconds > 0 else 0
    octave = units.bit_length() - SUB_BITS
    if octave <= 1:
        return units
    bucket = ((octave - 1) << SUB_BITS) + (units >> (octave - 1))
    return bucket if bucket < BUCKETS else BUCKETS - 1


TABLED = 4096
BUCKET_TABLE = tuple(bucket_of(units << UNIT_BITS) for units in range(TABLED))
"""The buckets of durations below TABLED units (4.2 ms): a look-up takes a third of the time of bucket_of."""


def bounds(bucket: int) -> tuple[float, float]:
    """Return the lower and the upper bound of a bucket, in seconds."""
    octave = bucket >> SUB_BITS
    if octave <= 1:
        return bucket * UNIT, (bucket + 1) * UNIT
    width = 1 << (octave - 1)
    low = (_SUB + (bucket & (_SUB - 1))) << (octave - 1)
    return low * UNIT, (low + width) * UNIT


@dataclass(slots=True)
class Histogram:
    """Counts of durations, with their sum and maximum in seconds.

    Sum and maximum are exact where the durations were added one by one, else as good as the buckets. Quantiles are the
    middle of the bucket that holds them, never more than the maximum.
    """

    counts: MutableSequence[int] = field(default_factory=lambda: [0] * BUCKETS)
    total: float = 0.0
    maximum: float = 0.0

    @classmethod
    def of(cls, durations: Iterable[float]) -> Histogram:
        """Build a histogram from durations in seconds."""
        counts = [0] * BUCKETS
        total = maximum = 0.0
        for duration in durations:
            counts[bucket_of(round(duration * 1e9))] += 1
            total += duration
            maximum = max(maximum, duration)
        return cls(counts, total, maximum)

    @classmethod
    def counted(cls, counts: MutableSequence[int]) -> Histogram:
        """Take counts as they are; sum and maximum follow from the middles of the buckets."""
        total = maximum = 0.0
        for bucket, number in enumerate(counts):
            if number:
                low, high = bounds(bucket)
                maximum = (low + high) / 2
                total += number * maximum
        return cls(counts, total, maximum)

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """The exact mean in seconds, or None when nothing was counted."""
        count = self.count
        return self.total / count if count else None

    def quantile(self, share: float) -> float | None:
        """Return the duration in seconds that ``share`` (0 to 1) of all do not exceed; None when empty."""
        rank = share * self.count
        if not rank and not self.count:
            return None
        seen = 0
        for bucket, number in enumerate(self.counts):
            seen += number
            if number and seen >= rank:
                low, high = bounds(bucket)
                return min((low + high) / 2, self.maximum)
        return self.maximum

    def share_above(self, duration: float) -> float | None:
        """Return the share of durations in buckets that lie wholly above ``duration`` seconds; None when empty."""
        count = self.count
        if not count:
            return None
        last = bucket_of(round(duration * 1e9))
        return sum(self.counts[last + 1 :]) / count

    def __add__(self, other: Histogram) -> Histogram:
        counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        return Histogram(counts, self.total + other.total, max(self.maximum, other.maximum))
