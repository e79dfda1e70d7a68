"""How many connections the server can give to each worker."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from pool_doctor.analysis._checks import number, whole


def per_worker(
    max_connections: int,
    superuser_reserved: int,
    reserved: int,
    others: int,
    hosts: int,
    workers: int,
    deploy_surge: float,
) -> int:
    """Return the largest ``max_size`` with which all workers together stay within the server's limit.

    ``superuser_reserved`` and ``reserved`` are the server's ``superuser_reserved_connections`` and
    ``reserved_connections`` (PostgreSQL 16 and later, else 0), ``others`` the connections that other clients
    need, ``workers`` the processes on each of the ``hosts``, and ``deploy_surge`` the share of extra
    processes while a new version replaces the old one (0.25: a quarter more; 1.0: both versions run in full).

    The answer is 0 where the server cannot give even one connection to each worker. Raise ValueError for a
    number that cannot be.
    """
    return Budget(max_connections, superuser_reserved, reserved, others, hosts, workers, deploy_surge).per_worker


@dataclass(frozen=True, slots=True)
class Budget:
    """The server's limit and all who share it; the fields are the arguments of `per_worker`."""

    max_connections: int
    superuser_reserved: int
    reserved: int
    others: int
    hosts: int
    workers: int
    deploy_surge: float

    def __post_init__(self) -> None:
        whole("max_connections", self.max_connections, 1)
        for name in ("superuser_reserved", "reserved", "others"):
            whole(name, getattr(self, name), 0)
        whole("hosts", self.hosts, 1)
        whole("workers", self.workers, 1)
        number("deploy_surge", self.deploy_surge, "extra processes for each process")

    @property
    def available(self) -> int:
        """How many connections are left for the workers."""
        return max(0, self.max_connections - self.superuser_reserved - self.reserved - self.others)

    @property
    def processes(self) -> Fraction:
        """How many processes share them while a deployment runs."""
        # 0.1 stands for one tenth here: with the binary fraction, 110 connections for 10 * 1.1 processes
        # would be 9.
        surge = Fraction(self.deploy_surge).limit_denominator(1_000_000)
        return self.hosts * self.workers * (1 + surge)

    @property
    def per_worker(self) -> int:
        """The largest ``max_size`` that fits."""
        return math.floor(self.available / self.processes)

    @property
    def sentence(self) -> str:
        """The calculation, in words."""
        reserved = self.superuser_reserved + self.reserved
        surge = f" plus {self.deploy_surge:.0%} while a deployment runs" if self.deploy_surge else ""
        return (
            f"The server takes {self.max_connections} connections; {reserved} are reserved and "
            f"{self.others} belong to others, which leaves {self.available} for "
            f"{self.hosts} x {self.workers} workers{surge}: {self.per_worker} for each worker."
        )
