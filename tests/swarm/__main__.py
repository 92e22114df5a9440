"""``python -m tests.swarm [NAME …]``: all rows, or those named; the table is written when all were measured."""

import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.swarm.engine import Engine, say
from tests.swarm.figures import LATE, broken_bars, figures, in_the_gap
from tests.swarm.images import build
from tests.swarm.measure import KEY, Measurement, Run
from tests.swarm.recipes import broken_recipes
from tests.swarm.report import write
from tests.swarm.starts import refused_files, wrong_starts
from tests.swarm.strategies import FAILING, GOOD, Strategy

TRIES = 5


def main(names: Sequence[str]) -> int:
    failing, good = ([each for each in rows if not names or each.name in names] for rows in (FAILING, GOOD))
    with Engine() as engine:
        say("build the images")
        base, added = build(engine)
        say(f"the hub adds {added / 1e6:.1f} MB to its base")
        broken = refused_files(engine) + wrong_starts(engine)
        engine.isolate()
        prepare(engine)
        if not names or "recipes" in names:
            broken += broken_recipes(engine)
        runs = [*together(engine, failing, base), *(alone(engine, each, base) for each in good)]
    broken += [f"{run.strategy.name}: {each}" for run in runs for each in broken_bars(run.strategy, figures(run))]
    if not names:
        write(runs)
    for run in runs:
        say(f"{run.strategy.name}: {figures(run)}; {in_the_gap(run)}")
    for each in broken:
        say(f"FAILED {each}")
    return 1 if broken else 0


def prepare(engine: Engine) -> None:
    """What stack.yml asks for."""
    node = engine.docker("node", "ls", "--quiet").strip()
    engine.docker("node", "update", "--label-add", "mercure=true", node)
    for name in ("mercure_publisher_jwt_key", "mercure_subscriber_jwt_key"):
        engine.docker("secret", "create", name, "-", stdin=KEY)


def alone(engine: Engine, strategy: Strategy, base: str) -> Run:
    """A row that was late and nothing else is measured again: the machine, or its disk, may have been busy."""
    for _ in range(TRIES - 1):
        run = Measurement(engine, strategy, base).run()
        broken = broken_bars(strategy, figures(run))
        if len(broken) != 1 or LATE not in broken[0]:
            return run
        say(f"{strategy.name}: {broken[0]}; {in_the_gap(run)}; once more")
    return Measurement(engine, strategy, base).run()


def together(engine: Engine, strategies: Sequence[Strategy], base: str) -> list[Run]:
    with ThreadPoolExecutor() as threads:
        return list(threads.map(lambda strategy: Measurement(engine, strategy, base).run(), strategies))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the engine ends with us
    sys.exit(main(sys.argv[1:]))
