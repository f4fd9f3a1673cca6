"""What is known of the way to the brokers, from librdkafka's own statistics and errors."""

from __future__ import annotations

import msgspec

from hub.sources.kafka.progress import Place

#: Reports in a row, a second apart, before a report alone is bad news: leaders that are not known yet, just
#: after partitions were assigned or moved, look the same.
_DOUBTS = 3
#: States of a broker's connection in which requests are answered.
_USABLE = frozenset({"UP", "UPDATE", "REAUTH"})


class _Broker(msgspec.Struct):
    nodeid: int
    state: str
    #: "logical" is the group's coordinator, which this source has no use for.
    source: str


class _Partition(msgspec.Struct):
    desired: bool = False
    #: The leader, as far as it is known; -1: none.
    broker: int = -1
    #: The end, by the last answer; negative: not known.
    hi_offset: int = -1


class _Topic(msgspec.Struct):
    partitions: dict[str, _Partition]


class _Statistics(msgspec.Struct):
    """The few fields of librdkafka's statistics (STATISTICS.md there) that tell whether records can come."""

    brokers: dict[str, _Broker]
    topics: dict[str, _Topic]


_decoder = msgspec.json.Decoder(_Statistics)


class Connection:
    """Written by the thread that reads, read by everybody.

    Errors bring bad news at once, but librdkafka reports no recovery: that is seen in the statistics.
    """

    def __init__(self) -> None:
        #: Partitions that are asked for, and those of them whose leader is connected.
        self.wanted = 0
        self.reachable = 0
        self.has_broker = False
        self.is_known = False
        #: The last thing that went wrong; of interest while something is wrong.
        self.error = ""
        #: How often that was.
        self.troubles = 0
        self._doubts = 0
        self._topics: dict[str, _Topic] = {}

    @property
    def status(self) -> str:
        """ "starting" before the first attempt has ended, then "ok", "degraded" or "down"."""
        if not self.is_known:
            return "starting"
        if not self.has_broker or (self.wanted and not self.reachable):
            return "down"
        return "ok" if self.reachable >= self.wanted else "degraded"

    def trouble(self, text: str) -> None:
        """Something went wrong with one broker."""
        self.error = text
        self.troubles += 1

    def lose(self, text: str) -> None:
        """All brokers are away."""
        self.error = self.error or text
        self.troubles += 1
        self.is_known = True
        self.has_broker = False
        self.reachable = 0

    def update(self, statistics: str) -> None:
        """Takes in what librdkafka reports regularly."""
        report = _decoder.decode(statistics)
        usable = {
            broker.nodeid
            for broker in report.brokers.values()
            if broker.state in _USABLE and broker.source != "logical"
        }
        wanted = [
            partition
            for topic in report.topics.values()
            for partition in topic.partitions.values()
            if partition.desired
        ]
        self._topics = report.topics
        # A broker that is known by its address only has the number -1, as has a leader that is not known.
        reachable = sum(partition.broker in usable for partition in wanted if partition.broker >= 0)
        is_good = bool(usable) and reachable == len(wanted)
        self._doubts = 0 if is_good else self._doubts + 1
        if is_good or self._doubts >= _DOUBTS or self.status in ("down", "degraded"):
            self.is_known = True
            self.has_broker, self.wanted, self.reachable = bool(usable), len(wanted), reachable

    def ends(self) -> dict[Place, int]:
        """The end of each partition that is read, where it is known; as old as the last statistics."""
        return {
            (name, int(number)): partition.hi_offset
            for name, topic in self._topics.items()
            for number, partition in topic.partitions.items()
            if partition.desired and partition.hi_offset >= 0
        }
