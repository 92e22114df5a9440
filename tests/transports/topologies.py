"""Several servers that are one log: a primary with its replica and three Sentinels, and a Cluster of three."""

from contextlib import ExitStack, suppress
from typing import Any, Self
from urllib.parse import urlencode

import redis
from redis.crc import key_slot

from tests.transports.valkey import Valkey, free_ports, until

SERVICE = "hub"
CLOCKS = ("info-period", 100, "ask-period", 100, "tilt-period", 1000)
"""Sentinel's own, in milliseconds; by default it takes seconds to know its neighbours, and does nothing for 30 s after
the machine has stood still for two.

Not its ping period: while the primary is down it asks a replica how it is once a second, whatever the info period,
and takes none whose answer is older than five ping periods.
"""


class Replica(Valkey):
    """Follows a primary, and has caught up once it is started."""

    def __init__(self, primary: Valkey, *options: str, port: int = 0) -> None:
        super().__init__(
            "--repl-diskless-sync-delay", "0", "--replicaof", f"127.0.0.1 {primary.port}", *options, port=port
        )

    def start(self) -> None:
        super().start()
        until(self.in_sync, "the replica does not follow")

    def in_sync(self) -> bool:
        return bool(self.client.info("replication").get("master_link_status") == "up")


class Sentinel(Valkey):
    """One of those who watch the primary."""

    def __init__(self, primary: int, *options: str, port: int) -> None:
        super().__init__(port=port)
        lines = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2",
            f"sentinel down-after-milliseconds {SERVICE} 500",
            f"sentinel failover-timeout {SERVICE} 3000",
            *options,
        ]
        (self.folder / "sentinel.conf").write_text("\n".join(lines))

    def command(self) -> list[str]:
        options = ("--port", str(self.port), "--unixsocket", str(self.socket), "--dir", str(self.folder))
        return [self.binary(), str(self.folder / "sentinel.conf"), "--sentinel", *options, "--logfile", "log"]


class Sentinels:
    """A primary, a replica, and three Sentinels that know each other."""

    def __init__(self, *options: str, sentinel: tuple[str, ...] = ()) -> None:
        first, second, *ports = free_ports(5)
        self.primary = Valkey("--repl-diskless-sync-delay", "0", *options, port=first)
        self.replica = Replica(self.primary, *options, port=second)
        self.sentinels = [Sentinel(first, *sentinel, port=port) for port in ports]
        self._stack = ExitStack()

    def url(self, login: str = "", **parameters: object) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{login}{hosts}/{SERVICE}" + (f"?{urlencode(parameters)}" if parameters else "")

    def __enter__(self) -> Self:
        for server in (self.primary, self.replica, *self.sentinels):
            self._stack.enter_context(server)
        self._tell(*CLOCKS, "publish-period", 100)
        until(lambda: all(map(self._knows, self.sentinels)), "the sentinels do not find each other")
        # Four of these later a primary that nobody has announced, new or old, is made a replica.
        self._tell("publish-period", 700)
        return self

    def _tell(self, *clocks: object) -> None:
        for sentinel in self.sentinels:
            sentinel.client.execute_command("SENTINEL", "DEBUG", *clocks)

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _knows(self, sentinel: Valkey) -> bool:
        state = sentinel.client.info("sentinel")["master0"]
        return bool(state["sentinels"] == 3 and state["slaves"] == 1)

    def fail_over(self) -> None:
        """Return once the replica is the primary, and the primary its replica."""
        until(self._failed_over, "no failover")

    def _failed_over(self) -> bool:
        """Asked again and again: a Sentinel that finds the replica slow to answer gives up without another try."""
        roles = self.primary.role(), self.replica.role()
        if roles[1] == "slave":
            with suppress(redis.exceptions.ResponseError):  # it is at it, or has no good replica yet
                self.sentinels[0].client.execute_command("SENTINEL", "FAILOVER", SERVICE)
        return roles == ("slave", "master")


class Node(Valkey):
    """``bus``: the port on which the nodes talk to each other."""

    def __init__(self, port: int, bus: int) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "1000")
        super().__init__(*options, "--repl-diskless-sync-delay", "0", port=port)
        self.bus = bus


class Cluster:
    """Three primaries that share the slots."""

    def __init__(self) -> None:
        ports = free_ports(6)
        self.nodes = [Node(*ports[n : n + 2]) for n in (0, 2, 4)]
        self._stack = ExitStack()

    def url(self, **parameters: object) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"redis+cluster://{hosts}" + (f"?{urlencode(parameters)}" if parameters else "")

    def __enter__(self) -> Self:
        share = 16384 // 3 + 1
        for number, node in enumerate(self.nodes):
            self._stack.enter_context(node)
            self.ask(node, "SET-CONFIG-EPOCH", number + 1)
            self.ask(node, "ADDSLOTSRANGE", number * share, min(16383, (number + 1) * share - 1))
            self.ask(node, "MEET", "127.0.0.1", self.nodes[0].port, self.nodes[0].bus)
        until(lambda: all(map(self._whole, self.nodes)), "the cluster does not come together")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def replica(self, primary: Valkey) -> "ClusterReplica":
        """One more node, which has what that primary has."""
        return ClusterReplica(self, primary)

    def ask(self, node: Valkey, *command: object) -> Any:
        return node.client.execute_command("CLUSTER", *command)

    def _whole(self, node: Valkey) -> bool:
        said = dict(line.split(":", 1) for line in self._text(node, "INFO").split("\r\n") if ":" in line)
        return said["cluster_state"] == "ok" and int(said["cluster_known_nodes"]) >= 3

    def _text(self, node: Valkey, *command: object) -> str:
        answer = self.ask(node, *command)
        return answer.decode() if isinstance(answer, bytes) else str(answer)

    def name(self, node: Valkey) -> str:
        return self._text(node, "MYID")

    def owner(self, key: str) -> Valkey:
        """The node that has a key's slot."""
        return next(node for node in self.nodes if self._has(node, key))

    def _has(self, node: Valkey, key: str) -> bool:
        try:
            node.client.exists(key)
        except (redis.exceptions.AskError, redis.exceptions.ResponseError):
            return False
        return True

    def begin_to_move(self, key: str, there: Valkey) -> None:
        """From now on the owner redirects requests for keys that it lacks to the other node."""
        here, slot = self.owner(key), key_slot(key.encode())
        self.ask(there, "SETSLOT", slot, "IMPORTING", self.name(here))
        self.ask(here, "SETSLOT", slot, "MIGRATING", self.name(there))

    def move_keys(self, key: str, here: Valkey, there: Valkey) -> None:
        names = self.ask(here, "GETKEYSINSLOT", key_slot(key.encode()), 1000)
        if names:
            here.client.execute_command("MIGRATE", "127.0.0.1", there.port, "", 0, 5000, "KEYS", *names)

    def finish_moving(self, key: str, there: Valkey) -> None:
        others = [node for node in self.nodes if node is not there]
        for node in (there, *others):
            self.ask(node, "SETSLOT", key_slot(key.encode()), "NODE", self.name(there))


class ClusterReplica(Node):
    """Follows a node of a cluster, and has caught up once it is started."""

    def __init__(self, cluster: Cluster, primary: Valkey) -> None:
        super().__init__(*free_ports(2))
        self._cluster, self._primary = cluster, primary

    def start(self) -> None:
        super().start()
        ask, first = self._cluster.ask, self._cluster.nodes[0]
        name = self._cluster.name(self._primary)
        ask(self, "MEET", "127.0.0.1", first.port, first.bus)
        until(lambda: name in self.known(), "the node does not get to know its primary")
        ask(self, "REPLICATE", name)
        until(self.in_sync, "the replica does not follow")

    def known(self) -> str:
        return str(self.client.execute_command("CLUSTER", "NODES"))

    def in_sync(self) -> bool:
        return bool(self.client.info("replication").get("master_link_status") == "up")
