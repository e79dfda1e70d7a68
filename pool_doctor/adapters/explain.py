"""Says in a PoolTimeout who holds the connections, which is what one wants to know then."""

from __future__ import annotations

import os
from time import monotonic_ns
from typing import TYPE_CHECKING

from pool_doctor.recording import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pool_doctor.recording.channel import Channel

MAX_HOLDERS = 5


def explain_timeout(error: BaseException, channel: Channel, size: int) -> None:
    """Add lines to the message of a pool's timeout: the pool's state, and its longest holders. The class stays."""
    cells = channel.cells
    in_use = cells[channel.in_use]
    pool = channel.description.pool
    maximum = pool.max_size if pool is not None and pool.max_size else "unlimited"
    holders = sorted(_holders(channel), reverse=True)
    state = (
        f"{size} connections (max_size {maximum}), {in_use} of them in use; {cells[channel.waiting]} more requests wait"
    )
    lines = [
        str(error),
        f"The pool of database {channel.alias!r} in process {os.getpid()} has {state}.",
        *(line for _, line in holders[:MAX_HOLDERS]),
    ]
    if len(holders) > MAX_HOLDERS:
        lines.append(f"  and {len(holders) - MAX_HOLDERS} more")
    error.args = ("\n".join(lines), *error.args[1:])


def _holders(channel: Channel) -> Iterator[tuple[int, str]]:
    ring = channel.ring
    now = monotonic_ns()
    start = ring.geometry.open_rows
    rows = bytes(ring.memory[start : start + layout.MAX_OPEN * layout.OPEN_ROW.size])
    for since, alias, scope, site, idle_since, pinned, _, again in layout.OPEN_ROW.iter_unpack(rows):
        if not since or since != again or alias != channel.index:
            continue
        idle = f"no query for {(now - idle_since) / 1e9:.3f} s" if idle_since else "a query runs"
        line = f"  held for {(now - since) / 1e9:.3f} s, {idle}: {ring.scopes.name(scope) or layout.OTHER}"
        line += f", from {ring.sites.name(site)}" if site else ""
        line += f", pinned by {ring.sites.name(pinned)}" if pinned else ""
        yield now - since, line
