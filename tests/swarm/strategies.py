"""The rows of the table: what is deployed, what is done to it, and what must come out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

STACK, OVERRIDES, OURS = "stack.yml", "deploy/stack.", "tests/swarm/"


@dataclass(frozen=True)
class Strategy:
    """``gap``: the longest time in seconds that may pass without a 2xx; None: the row is there to be looked at.
    ``back``: the longest that a browser may be without a stream.

    ``act``: what happens. ``idle``: further streams, on which nothing is sent.
    """

    name: str
    title: str
    files: Sequence[str] = (STACK,)
    variables: dict[str, str] = field(default_factory=dict)
    act: Literal["update", "update and back", "break", "kill", "restart valkey", "restart postgres"] = "update and back"
    state: str = "completed"
    good: bool = True
    health_check: bool = True
    gap: float | None = None
    back: float | None = None
    idle: int = 0


FAILING = [
    Strategy(
        "exclusive-start-first",
        "lmdb exclusive, start-first, health check",
        (STACK, f"{OVERRIDES}exclusive.yml"),
        act="update",
        state="rollback_completed",
        good=False,
    ),
    Strategy(
        "exclusive-without-health-check",
        "lmdb exclusive, start-first, no health check",
        (STACK, f"{OVERRIDES}exclusive.yml"),
        act="update",
        good=False,
        health_check=False,
    ),
    Strategy(
        "stop-first-slow-drain",
        "lmdb exclusive, stop-first, grace period 90 s and a drain of 75 s (1,500 more streams)",
        (STACK, f"{OVERRIDES}stop-first.yml", f"{OURS}slow-drain.yml"),
        act="update",
        good=False,
        idle=1500,
    ),
    Strategy(
        "memory",
        "memory, start-first",
        (STACK, f"{OVERRIDES}memory.yml"),
        good=False,
    ),
]
"""They have no bar for their gap, so they may disturb each other: all at once."""

GOOD = [
    Strategy("stop-first", "lmdb exclusive, stop-first", (STACK, f"{OVERRIDES}stop-first.yml"), gap=5.0),
    Strategy("standby", "lmdb `lock_timeout=60s`, start-first (standby; 200 streams)", gap=0.5, idle=150),
    Strategy(
        "shared-1",
        "lmdb `lock=shared`, start-first, 1 replica",
        (STACK, f"{OVERRIDES}shared.yml"),
        {"MERCURE_REPLICAS": "1"},
        gap=0.25,
    ),
    Strategy("shared-2", "lmdb `lock=shared`, start-first, 2 replicas", (STACK, f"{OVERRIDES}shared.yml"), gap=0.25),
    Strategy("redis", "redis, 2 replicas, start-first", (STACK, f"{OVERRIDES}redis.yml"), gap=0.25),
    Strategy("postgres", "postgresql, 2 replicas, start-first", (STACK, f"{OVERRIDES}postgres.yml"), gap=0.25),
    Strategy(
        "broken-image",
        "standby, update to a broken image",
        act="break",
        state="rollback_completed",
        gap=0.5,
    ),
    Strategy("killed", "standby, the hub killed with SIGKILL", act="kill", state="-"),
    Strategy(
        "killed-shared",
        "lmdb `lock=shared`, 2 replicas, one hub killed with SIGKILL",
        (STACK, f"{OVERRIDES}shared.yml"),
        act="kill",
        state="-",
        gap=0.25,
    ),
    Strategy(
        "pair",
        "lmdb `lock_timeout=forever`, 2 replicas, the one that serves killed with SIGKILL",
        (STACK, f"{OVERRIDES}pair.yml"),
        act="kill",
        state="-",
        gap=0.1,
        back=1.5,
    ),
    Strategy(
        "redis-restarted",
        "redis, 2 replicas, Valkey restarted during the update",
        (STACK, f"{OVERRIDES}redis.yml"),
        act="restart valkey",
    ),
    Strategy(
        "postgres-restarted",
        "postgresql, 2 replicas, PostgreSQL restarted during the update",
        (STACK, f"{OVERRIDES}postgres.yml"),
        act="restart postgres",
    ),
]
"""One after the other: each has the machine for itself."""
