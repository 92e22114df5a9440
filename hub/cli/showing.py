"""``/stats`` for a person at a terminal."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any


def shown(stats: Mapping[str, Any]) -> str:
    """What a hub says of itself, in lines that fit a terminal."""
    people, minute, totals, store = (stats[name] for name in ("subscribers", "last_minute", "totals", "transport"))
    furthest = people["furthest_behind_entries"]
    slowest = f", the slowest by {furthest:,} updates" if furthest else ""
    rates = f"{minute['updates_per_second']:g} updates/s, {minute['subscriptions_per_second']:g} subscriptions/s"
    lines = {
        "hub": f"{stats['version']}, {stats['state']} for {timedelta(seconds=int(stats['uptime_seconds']))}",
        "store": f"{store['url']}, {'up' if store['up'] else 'DOES NOT ANSWER'}",
        "history": _history(stats["history"]),
        "subscribers": f"{people['connected']:,} connected, {people['behind']:,} of them behind{slowest}",
        "last minute": rates,
        "since start": f"{totals['updates']:,} updates, {totals['subscribers']:,} subscriptions",
    }
    topics = [f"{each['subscribers']:>12,}  {each['topic']}" for each in stats["topics"]]
    return "\n".join([*(f"{name:<12} {said}" for name, said in lines.items()), *topics])


def _history(history: Mapping[str, Any]) -> str:
    entries, size = history.get("entries"), history.get("bytes")
    held = "unknown" if entries is None else f"{entries:,} updates"
    taken = "" if size is None else f", {size / 2**20:,.1f} MiB"
    return f"{held}{taken}, newest {history['newest']['id']}" if history else held
