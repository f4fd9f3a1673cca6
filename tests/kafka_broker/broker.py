"""One Kafka broker as a process that tests may stop, kill, freeze and start again."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests import needs

#: Generous: three seconds are usual, but the machine may be busy, and a killed broker first mends its logs.
_START_DEADLINE = 90.0
_STOP_DEADLINE = 60.0


class BrokerFailed(Exception):
    """The broker's process ended, or did not begin to answer. The text is the end of its log."""


class KafkaBroker:
    """A broker and controller in one process, with its data in ``folder``.

    It keeps its port and its data over ``stop``, ``kill`` and ``start``. All methods block: from Trio, call
    them with ``trio.to_thread.run_sync``. ``close`` ends the process for good.
    """

    def __init__(self, jars: Path, folder: Path, *, properties: Mapping[str, str] | None = None) -> None:
        self._classpath = f"{jars}/*"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._properties_file = folder / "server.properties"
        self._log_file = folder / "broker.log"
        port, controller_port = _free_ports(2)
        #: Where clients connect: host:port.
        self.bootstrap = f"127.0.0.1:{port}"
        folder.mkdir(parents=True, exist_ok=True)
        settings = _settings(port, controller_port, folder / "data") | dict(properties or {})
        self._properties_file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        self._format()

    # --- process ------------------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Returns when the broker answers. Does nothing when it runs already. Raises BrokerFailed."""
        if self.is_running:
            return
        memory = ["-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._java(*memory, "kafka.Kafka", str(self._properties_file)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Ends the broker politely (SIGTERM) and returns when the process has gone."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the broker at once (SIGKILL)."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Makes the broker keep its connections but answer nothing (SIGSTOP), until ``thaw``."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets a frozen broker go on. Does nothing to one that is not frozen."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends the process, whatever state it is in."""
        if self.is_running:
            self.kill()

    def log_tail(self) -> str:
        """The last lines that the broker wrote."""
        lines = self._log_file.read_text(errors="replace").splitlines() if self._log_file.exists() else []
        return "\n".join(lines[-40:])

    # --- contents -----------------------------------------------------------------------------------------

    def create_topics(self, names: Iterable[str], partitions: int, **config: str) -> None:
        """Makes topics, and returns when they are there. ``config``: topic settings, dots as underscores."""
        settings = {name.replace("_", "."): value for name, value in config.items()}
        topics = [
            NewTopic(name, num_partitions=partitions, replication_factor=1, config=settings) for name in names
        ]
        admin = self.admin()  # a name, because its answers die with it
        for made in admin.create_topics(topics, operation_timeout=30).values():
            made.result()

    def delete_topics(self, names: Iterable[str]) -> None:
        admin = self.admin()
        for gone in admin.delete_topics(list(names), operation_timeout=30).values():
            gone.result()

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": "2"})

    def producer(self, **config: Any) -> Producer:
        """An idempotent producer: records arrive once and in order, over restarts of the broker too."""
        settings = {name.replace("_", "."): value for name, value in config.items()}
        # log_level 2: it would print a line to stderr for each refused connection while the broker is away.
        defaults = {
            "enable.idempotence": True,
            "linger.ms": 5,
            "log_level": 2,
            "reconnect.backoff.max.ms": 500,
        }
        return Producer({"bootstrap.servers": self.bootstrap} | defaults | settings)

    # --- inside -------------------------------------------------------------------------------------------

    def _java(self, *arguments: str) -> list[str]:
        return [
            needs.program("java"),
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            self._classpath,
            *arguments,
        ]

    def _format(self) -> None:
        command = ["kafka.tools.StorageTool", "format", "-t", _cluster_id(), "-c", str(self._properties_file)]
        done = subprocess.run(self._java("-XX:TieredStopAtLevel=1", *command), capture_output=True, text=True)
        if done.returncode != 0:
            raise BrokerFailed(done.stdout + done.stderr)

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_DEADLINE
        admin = self.admin()
        while time.monotonic() < deadline and self.is_running:
            with contextlib.suppress(KafkaException):
                admin.list_topics(timeout=0.5)
                return
        self.close()
        raise BrokerFailed(self.log_tail())

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(_STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def _settings(port: int, controller_port: int, data: Path) -> dict[str, str]:
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "1",
        # A killed broker may not register again before its old session ends.
        "broker.session.timeout.ms": "2000",
        "broker.heartbeat.interval.ms": "250",
        # Hundreds of partitions in a small process.
        "log.index.size.max.bytes": "65536",
        "num.network.threads": "2",
        "num.io.threads": "2",
        "background.threads": "2",
        "log.cleaner.dedupe.buffer.size": "8388608",
    }


def _cluster_id() -> str:
    """A cluster's id is a UUID in base64; any will do, because each broker here is alone."""
    return "tests-cluster-of-one-w"


def _free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on.

    They are taken from below the range of outgoing connections: a client that keeps trying to reach a stopped
    broker on a port of that range would sooner or later be given this very port as its own, reach itself, and
    keep the broker from starting again.
    """
    lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(10_000, lowest_outgoing)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in ports:
                ports.append(port)
    return ports
