"""The ring file's layout: what lies where, for the writer and for the reader.

The file is a row of sections, each a whole number of 8-byte words. All that changes in the hot path is a word (a
counter, a time in nanoseconds of ``time.monotonic_ns``) or an event record, so that both sides can address the
file as one array of unsigned 64-bit integers in the machine's own byte order: it never leaves the machine.

    header | scope names | site names | request counts by scope | open checkouts | aliases | ring of events

Word offsets inside a section are constants below; ``Geometry`` says where each section begins.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass

from pool_doctor.recording.histogram import BUCKETS

MAGIC = b"PoolDoc\n"
VERSION = 2
WORD = 8

# Header: magic, version, ring size, pid, threads, start on the wall clock (s) and on the monotonic clock (ns),
# boot id, kind, command; then the live words of the process.
HEADER = struct.Struct("=8sIIIId q 40s 16s 160s".replace(" ", ""))
HEADER_BYTES = 512
LAST_MINUTE = 41  # word: the last minute (of the monotonic clock) in which a connection was asked for
SCOPE_NAMES = 42  # word: how many scope names are in use
SITE_NAMES = 43  # word: how many site names are in use
ALIASES = 44  # word: how many alias sections are in use
SCRATCH_ROW = 56  # word: a row like those of open checkouts, for those that found none free; nobody reads it
KIND = struct.Struct("=16s")
KIND_AT = 80
THREADS = struct.Struct("=I")
THREADS_AT = 20

# Names: a length and UTF-8 text, in slots of equal size. Slot 0 is the name of all that no slot was left for.
NAME = struct.Struct("=H158s")
MAX_SCOPES = 256
MAX_SITES = 1024
OTHER = "(other)"

# Open checkouts: one row for each connection that is out. Since when it is out stands first and last; 0 if it is not.
OPEN_ROW = struct.Struct("=8Q")
OPEN_WORDS = 8
MAX_OPEN = 256
OPEN_ALIAS, OPEN_SCOPE, OPEN_SITE, OPEN_IDLE_SINCE, OPEN_PINNED = range(1, 6)

# Sums by scope: one row for each scope name.
TOTAL_WORDS = 8
TOTAL_CHECKOUTS, TOTAL_QUERIES, TOTAL_WAIT, TOTAL_HOLD, TOTAL_NEEDED, TOTAL_QUERY_TIME = range(6)

# Peak demand by minute, for one day.
MINUTE = 60 * 10**9
MINUTES = 1440
MINUTE_WORDS = 8
(
    MINUTE_NUMBER,
    MINUTE_CHECKOUTS,
    MINUTE_TIMEOUTS,
    MINUTE_PEAK_IN_USE,
    MINUTE_PEAK_WAITING,
) = range(5)

# Alias: description, counters, three histograms, sums by scope, minutes.
ALIAS = struct.Struct("=64s 128s 16s 6d".replace(" ", ""))
ALIAS_BYTES = 256
MAX_ALIASES = 8
(
    SIZE,
    AVAILABLE,
    IN_USE,
    WAITING,
    PEAK_IN_USE,
    PEAK_WAITING,
    TIMEOUTS,
    ERRORS,
) = range(ALIAS_BYTES // WORD, ALIAS_BYTES // WORD + 8)
WAIT = ALIAS_BYTES // WORD + 16
HOLD = WAIT + BUCKETS
NEEDED = HOLD + BUCKETS
TOTALS = NEEDED + BUCKETS
MINUTE_ROWS = TOTALS + MAX_SCOPES * TOTAL_WORDS
ALIAS_WORDS = MINUTE_ROWS + MINUTES * MINUTE_WORDS

# Event: number (from 1), kind, alias, outcome, flags, scope name, site name, scope id, queries, checkouts, start,
# five durations (ns), the number's low 32 bits again. A record whose two numbers differ was read while it was written.
EVENT = struct.Struct("=QBBBBHHIII qqqqqq I".replace(" ", ""))
EVENT_BYTES = EVENT.size

# The same record without the field for checkouts, as it is written most often: kind to flags are one number (`head`).
SHORT_EVENT = struct.Struct("=QIHHII4x qqqqqq I".replace(" ", ""))

CHECKOUT = 1  # start, wait, hold, needed, query time, from when on it was needed (after it was there) if it is SOLE
SEGMENTS = 2  # up to three needed segments of one checkout (how many stands in place of queries): start, duration, ...
REQUEST = 3  # start, wait, hold, needed, query time, duration; the site is how long it waited for a thread, in ms
PIN = 4  # start; the site's name says the kind of statement too

SEGMENT_FIELDS = 6

OK, TIMEOUT, ERROR = 0, 1, 2

FIRST = 1  # flag of a REQUEST: the first of the (one for each alias) events of its run
SOLE = 2  # flag of a CHECKOUT: needed once, without a break; it has no SEGMENTS event of its own
SERVED = 4  # flag of a REQUEST: a web server's request, which takes up one of the server's threads
ALONE = 8  # flag of a CHECKOUT: outside all scopes, so that it is a run of its own, which has no REQUEST event

UNKNOWN_QUEUED = 0xFFFF  # in place of the milliseconds of a REQUEST: nobody said when the server got it

NO_ALIAS = 255

CHECKOUT_FLAGS = SOLE | ALONE

_YEAR_3000 = 32_503_680_000.0


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where each section of a file with room for ``ring_size`` events begins, in bytes."""

    ring_size: int

    @property
    def scope_names(self) -> int:
        return HEADER_BYTES

    @property
    def site_names(self) -> int:
        return self.scope_names + MAX_SCOPES * NAME.size

    @property
    def runs(self) -> int:
        """One word for each scope name: how many runs of it have ended."""
        return self.site_names + MAX_SITES * NAME.size

    @property
    def open_rows(self) -> int:
        return self.runs + MAX_SCOPES * WORD

    @property
    def aliases(self) -> int:
        return self.open_rows + MAX_OPEN * OPEN_ROW.size

    @property
    def events(self) -> int:
        return self.aliases + MAX_ALIASES * ALIAS_WORDS * WORD

    @property
    def size(self) -> int:
        """The size of the whole file."""
        return self.events + self.ring_size * EVENT_BYTES


@dataclass(frozen=True, slots=True)
class Header:
    """The fixed part of a file's header."""

    ring_size: int
    pid: int
    started_at: float
    """Seconds since the epoch."""
    started: int
    """The same moment on the monotonic clock, in nanoseconds."""
    boot: str
    kind: str
    command: str
    threads: int = 0
    """How many requests the process serves at once at most; 0 where that is unlimited or not known."""

    def wall_clock(self, monotonic: int) -> float:
        """Return a monotonic time of this file's boot as seconds since the epoch."""
        return self.started_at + (monotonic - self.started) / 1e9


def parse_header(data: bytes) -> Header:
    """Read a header. Raises ValueError, saying what the file is instead, where it isn't one of this version."""
    if len(data) < HEADER_BYTES:
        raise ValueError("it is too short to be a ring file")
    magic, version, ring_size, pid, threads, started_at, started, boot, kind, command = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ValueError("it is not a ring file")
    if version != VERSION:
        raise ValueError(f"it has format version {version}; this pool_doctor reads version {VERSION}")
    if not ring_size or not 0 <= started_at < _YEAR_3000 or started < 0:
        raise ValueError("its header is damaged")
    return Header(ring_size, pid, started_at, started, text(boot), text(kind), text(command), threads)


def head(kind: int, alias: int, outcome: int, flags: int) -> int:
    """Return four fields of an event as the one number that has the same bytes."""
    return int.from_bytes(bytes((kind, alias, outcome, flags)), sys.byteorder)


def last_minute(data: bytes) -> float:
    """Return when the process of this header was last seen at work, to a minute, in seconds since the epoch."""
    header = parse_header(data)
    (minute,) = struct.unpack_from("=Q", data, LAST_MINUTE * WORD)
    return max(header.wall_clock(minute * MINUTE), header.started_at)


def text(padded: bytes) -> str:
    """Return the text of a field that is padded with NUL bytes."""
    return padded.split(b"\0", 1)[0].decode("utf-8", "replace")


def clip(text: str, size: int) -> bytes:
    """Return the text in UTF-8, cut to ``size`` bytes at a character's border."""
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore").encode()
