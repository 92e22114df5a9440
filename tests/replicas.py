"""``make replicas``: two hubs on one Redis or Valkey; an update that is published on one arrives at the other."""

import asyncio
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.e2e.processes import Hubs, Publisher, Subscriber, running, until
from tests.transports.valkey import Valkey
from transports.urls import redact


async def show(url: str, hubs: Hubs) -> None:
    started = [hubs.start(url) for _ in range(2)]
    addresses = [await hub.listening() for hub in started]
    for number, (host, port) in enumerate(addresses, 1):
        print(f"hub {number} listens on http://{host}:{port} and stores in {redact(url)}")
    publisher, subscriber = Publisher("an update", addresses[:1]), Subscriber(addresses[1:])
    async with running(subscriber.follow()):
        await until(lambda: subscriber.answers)
        await publisher.publish(1)
        (receipt,) = publisher.receipts
        print(f"published on hub 1: {receipt.id}")
        await until(lambda: receipt.id in [event.id for event in subscriber.events])
        print(f"arrived at hub 2:   {receipt.id}")


def main() -> None:
    with ExitStack() as stack:
        url = sys.argv[1] if sys.argv[1:] else stack.enter_context(Valkey()).url()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        asyncio.run(show(url, stack.enter_context(Hubs(folder))))


if __name__ == "__main__":
    main()
