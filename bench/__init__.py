"""How fast the hub is: against a bare ``write()`` loop, nginx with Nchan and an sse-starlette hub, in one run.

# Layout

- ``__main__``: the command; `run`: the sections of a run, one after the other; `against`: any other hub
- `fanout`, `connecting`, `publishing`, `history`, `audiences`, `stores`, …: what a section measures
- `servers`: what is measured; `load`: the client in C that measures (``load.c``); `machine`: what the kernel tells
- `bars`: what must hold; `report`, `plots`: tables and pictures for ``docs/performance.md``
- ``write_loop.c``, ``baseline_sse_starlette.py``: the baselines
- `redis_transport`: a command of its own, the Redis log beside redis-py
"""
