"""DDS domains that nobody else on this machine is in."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

DOMAINS = range(1, 101)
# Each process begins elsewhere and goes on from there, so that what a killed participant left behind has time to go.
_next = itertools.cycle(DOMAINS[(os.getpid() + i) % len(DOMAINS)] for i in range(len(DOMAINS)))


def inhabited(domain: int) -> bool:
    """Whether a participant on this machine has one of the domain's first UDP ports (DDSI-RTPS 9.6.1)."""
    base = 7400 + 250 * domain
    for port in (base, *range(base + 10, base + 30, 2)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", port))
            except OSError:
                return True
    return False


@contextmanager
def unused_domain() -> Iterator[int]:
    """A domain for as long as the context lasts; others who take theirs from ROS's domain_coordinator keep off it.

    Raises:
        RuntimeError: Every domain is taken.
    """
    reason = "ROS 2 is not in the environment: source setup/env.sh"
    coordinator = pytest.importorskip("domain_coordinator", reason=reason)
    candidates = itertools.islice(_next, len(DOMAINS))
    empty = (domain for domain in candidates if not inhabited(domain))
    with coordinator.domain_id(lambda: next(empty, DOMAINS[-1])) as domain:
        yield domain
