"""A client that believes nothing: checks that what it is told adds up to what was published."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any, Literal

import attrs
import pytest

from hub.core.broker import Broker
from hub.core.channel import Channel
from hub.sansio.cursor import decode_cursor, encode_cursor
from hub.sansio.names import Namespaces
from hub.sansio.policies import Policy
from hub.sansio.publication import Position, Publication
from tests.core.picture import Picture
from tests.core.wire import EventReader, Told, WebSocketReader, understand


class Truth:
    """All that was ever published, by channel, epoch and seq, and what it came to: the hub's own view then."""

    def __init__(self, namespaces: Namespaces) -> None:
        self.namespaces = namespaces
        self.published: dict[tuple[str, str], dict[int, Any]] = defaultdict(dict)
        self.kinds: dict[tuple[str, str], dict[int, str | None]] = defaultdict(dict)
        self.states: dict[tuple[str, str], dict[int, Any]] = defaultdict(dict)
        self.count = 0

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """From now on sees what is appended to any channel."""
        make, append = Channel.__init__, Channel.append

        def noted_make(channel: Channel, *about: Any) -> None:
            make(channel, *about)
            self._note_state(channel)

        def noted_append(channel: Channel, publication: Publication, parsed: object) -> None:
            append(channel, publication, parsed)
            self._note(channel, publication)

        patch.setattr(Channel, "__init__", noted_make)
        patch.setattr(Channel, "append", noted_append)

    def _note(self, channel: Channel, publication: Publication) -> None:
        key = (channel.name, channel.log.epoch)
        history = self.published[key]
        assert publication.seq not in history, "a number was given twice in one epoch"
        assert publication.seq == len(history) + 1
        history[publication.seq] = json.loads(publication.data)
        self.kinds[key][publication.seq] = publication.kind
        self._note_state(channel)

    def _note_state(self, channel: Channel) -> None:
        if (state := channel.state) is not None:
            self.states[channel.name, channel.log.epoch][channel.log.head_seq] = json.loads(state.data)

    def publish_number(self, broker: Broker, channel: str, padding: int) -> None:
        self.count += 1
        data = {"n": self.count, "pad": "x" * padding}
        position = broker.publish(channel, json.dumps(data, separators=(",", ":")).encode(), ts=self.count)
        assert self.published[channel, position.epoch][position.seq] == data

    def policy(self, channel: str) -> Policy:
        return self.namespaces.resolve(channel)

    def has_state(self, channel: str, epoch: str, seq: int) -> bool:
        """Whether there was a state when ``seq`` was the newest."""
        return seq in self.states[channel, epoch]


@attrs.define
class View:
    """What one client knows of one channel. ``next`` is the only seq that may come; ``due`` what must come first.

    ``next`` None: unknown until the next cursor says it (SSE in format v2 has no other way).
    """

    epoch: str | None
    next: int | None
    due: Literal["gap", "maybe gap", "snapshot"] | None = None
    #: The seq of the state that is due: this one, or, where it was not told with it, a later one.
    snapshot_seq: int | None = None
    is_exact: bool = False
    head: int | None = None
    #: What the client makes of all that; None where it cannot know.
    picture: Picture | None = None

    @property
    def position(self) -> Position | None:
        """What a cursor must say of the channel now."""
        if self.due == "snapshot" or self.epoch is None or self.next is None:
            return None
        return Position(self.epoch, self.next - 1)


@attrs.frozen
class Asked:
    kind: Literal["subscribe", "unsubscribe", "ping", "nonsense"]
    id: int
    channels: tuple[str, ...] = ()
    seen: Mapping[str, Position | int] = attrs.field(factory=dict)


class Checker:
    """One connection of a client. ``views`` outlives it: the next connection begins with what is in there."""

    def __init__(
        self, truth: Truth, protocol: str, *, is_sse: bool = False, views: Mapping[str, View] | None = None
    ) -> None:
        self.truth = truth
        self.protocol = protocol
        self.is_sse = is_sse
        self.views: dict[str, View] = {}
        #: What it knew of channels that it is not subscribed to (any more).
        self.memory: dict[str, View] = {name: attrs.evolve(view) for name, view in (views or {}).items()}
        self.asked: deque[Asked] = deque()
        self.is_welcome = protocol == "live" and not is_sse
        self.bye: Mapping[str, Any] | None = None
        self.slow_warnings = 0
        self.drops: list[tuple[str, int, int]] = []
        #: After each event: its id, and what was known then.
        self.moments: list[tuple[str, dict[str, View]]] = []
        self.told: list[Told] = []
        self._reader = EventReader() if is_sse else WebSocketReader(is_cbor=protocol == "v2.cbor")

    def feed(self, data: bytes) -> None:
        for body, cursor in self._reader.feed(data):
            told = understand(body, cursor)
            self.told.append(told)
            assert self.bye is None, f"{told} after the farewell"
            self._take(told)
            if cursor is not None:
                self._check_cursor(cursor)
                self.moments.append((cursor, self.knowledge()))

    def knowledge(self) -> dict[str, View]:
        """What the client knows now, of all channels it ever had."""
        known = {**self.memory, **self.views}
        return {name: attrs.evolve(view) for name, view in known.items()}

    def _take(self, told: Told) -> None:
        if not self.is_welcome:
            assert told.kind == ("subscribed" if self.protocol == "live" else "welcome"), f"{told} came first"
            self.is_welcome = True
            if self.is_sse:
                self._begin_stream(told)
            return
        match told.kind:
            case "subscribed" | "unsubscribed" | "pong" | "refused":
                self._take_answer(told)
            case "data" | "snapshot" | "gap" | "drop" | "covered":
                assert told.channel in self.views, f"{told.kind} of {told.channel}, which is not subscribed"
                getattr(self, f"_take_{told.kind}")(told, self.views[told.channel])
            case "slow":
                self.slow_warnings += 1
            case "beat":
                self._check_cursor(told.data["cursor"])
            case "bye":
                self.bye = told.data if self.protocol == "live" else told.body
            case _:
                raise AssertionError(f"unexpected {told}")

    # --- answers ------------------------------------------------------------------------------------------

    def _take_answer(self, told: Told) -> None:
        asked = self.asked.popleft()
        if self.protocol != "live":
            assert told.body["id"] == asked.id, f"{told} answers {asked}"
        match asked.kind:
            case "subscribe":
                assert told.kind == "subscribed", told
                self._subscribed(asked, told)
            case "unsubscribe":
                assert told.kind == "unsubscribed", told
                for name in asked.channels:
                    if name in self.views:
                        self.memory[name] = self.views.pop(name)
            case "ping":
                assert told.kind == "pong", told
            case "nonsense":
                assert told.kind == "refused", told

    def _subscribed(self, asked: Asked, told: Told) -> None:
        data = told.data
        done = data["channels" if self.protocol == "live" else "subscribed"]
        errors = {error["channel"] for error in data.get("errors", ())}
        assert set(done) | errors == set(asked.channels)
        assert set(data.get("positions", {})) == set(done)
        for name in done:
            if name not in self.views:
                self.views[name] = self._begin(name, asked.seen.get(name), data["positions"][name])
        if self.protocol == "live":
            self._check_cursor(data["cursor"])

    def _begin(self, name: str, seen: Position | int | None, state: Mapping[str, Any]) -> View:
        head, epoch = state["seq"], state["epoch"]
        assert 0 <= head <= len(self.truth.published[name, epoch]), "the answer knows more than was published"
        has_state = self.truth.has_state(name, epoch, head)
        if seen is None:
            assert "recovered" not in state
            return View(epoch, head + 1, "snapshot" if has_state else None, head, head=head)
        seq = seen if isinstance(seen, int) else seen.seq
        is_same = isinstance(seen, int) or seen.epoch == epoch
        recovered = is_same and state["firstSeq"] - 1 <= seq <= head
        assert state.get("recovered", True) is recovered, f"{seen} in {state}"
        if recovered:
            return View(epoch, seq + 1, head=head, picture=self._picture_at(name, epoch, seq))
        return View(epoch if isinstance(seen, int) else seen.epoch, seq + 1, "gap", head, head=head)

    def _picture_at(self, name: str, epoch: str, seq: int) -> Picture | None:
        """What a client knows that has seen all up to ``seq``."""
        state = self.truth.states[name, epoch].get(seq)
        return None if state is None else Picture.of_state(self.truth.policy(name), state)

    # --- an SSE stream has its subscriptions from the URL -------------------------------------------------

    def expect_stream(self, channels: tuple[str, ...], seen: Mapping[str, Position | int]) -> None:
        self.asked.append(Asked("subscribe", 0, channels, seen))

    def _begin_stream(self, told: Told) -> None:
        asked = self.asked.popleft()
        if told.kind == "subscribed":
            self._subscribed(asked, told)
            return
        assert told.cursor is not None
        positions = decode_cursor(told.cursor, max_size=2048)
        for name in asked.channels:
            seen, position = asked.seen.get(name), positions.get(name)
            if seen is None:
                due: Literal["snapshot"] | None = None if position else "snapshot"
                self.views[name] = (
                    View(None, None, due) if position is None else View(position.epoch, position.seq + 1)
                )
            else:
                assert position is not None
                assert position.seq == (seen if isinstance(seen, int) else seen.seq)
                picture = self._picture_at(name, position.epoch, position.seq)
                self.views[name] = View(position.epoch, position.seq + 1, "maybe gap", picture=picture)

    # --- data ---------------------------------------------------------------------------------------------

    def _take_data(self, told: Told, view: View) -> None:
        assert view.due in (None, "maybe gap"), f"{told} while a {view.due} is due"
        assert told.seq == view.next, f"{told}, expected {view}"
        assert view.epoch is not None
        assert told.data == self.truth.published[told.channel, view.epoch][told.seq], told
        kind = self.truth.kinds[told.channel, view.epoch][told.seq]
        policy = self.truth.policy(told.channel)
        # On /live a state is called so where others are changes; where each is a state it has its own name.
        is_called_so = self.protocol != "live" or policy.snapshot not in ("none", "last", "top")
        assert (told.kind == "snapshot") == (kind == "snapshot" and is_called_so), told
        view.next, view.due = told.seq + 1, None
        view.picture = Picture.after(view.picture, policy, told.data, is_state=kind == "snapshot")
        self._check_picture(told, view)

    def _take_covered(self, told: Told, view: View) -> None:
        """The event itself is on the part, so the whole is not known any more by itself."""
        assert view.due in (None, "maybe gap"), f"{told} while a {view.due} is due"
        assert told.seq == view.next, f"{told}, expected {view}"
        assert self.truth.policy(told.channel).parts
        assert told.data["channel"] in self.views, f"{told}: it does not have that"
        view.next, view.due, view.picture = told.seq + 1, None, None

    def _check_picture(self, told: Told, view: View) -> None:
        if view.picture is not None and view.epoch is not None:
            state = self.truth.states[told.channel, view.epoch].get(told.seq)
            policy = self.truth.policy(told.channel)
            assert state is None or Picture.of_state(policy, state) == view.picture, told

    def _take_snapshot(self, told: Told, view: View) -> None:
        if view.due != "snapshot":  # one that was published
            self._take_data(told, view)
            return
        if view.snapshot_seq is not None:
            assert told.seq == view.snapshot_seq or (not view.is_exact and told.seq > view.snapshot_seq), view
        if self.protocol != "live":
            assert view.epoch in (None, told.body["epoch"])
            view.epoch = told.body["epoch"]
        elif told.cursor is not None:
            view.epoch = decode_cursor(told.cursor, max_size=2048)[told.channel].epoch
        assert view.epoch is not None
        assert told.data == self.truth.states[told.channel, view.epoch][told.seq], told
        view.next, view.due, view.snapshot_seq = told.seq + 1, None, None
        view.picture = Picture.of_state(self.truth.policy(told.channel), told.data)

    def _take_gap(self, told: Told, view: View) -> None:
        assert view.due in ("gap", "maybe gap"), f"{told}, expected {view}"
        assert told.data["fromSeq"] == view.next, f"{told}, expected {view}"
        reason, to_seq, epoch = told.data["reason"], told.data["toSeq"], told.data["epoch"]
        assert (reason == "epoch") == (epoch != view.epoch)
        assert (to_seq is not None) == (reason == "evicted")
        assert to_seq is None or to_seq >= told.data["fromSeq"], told
        view.epoch, view.picture = epoch, None
        if self._has_state(told, view):
            if to_seq is not None and view.head is not None:
                assert to_seq >= view.head
            view.due, view.snapshot_seq = "snapshot", view.head if to_seq is None else to_seq
            view.is_exact = to_seq is not None
        else:
            view.due = None
            view.next = to_seq + 1 if to_seq is not None else None if view.head is None else view.head + 1

    def _has_state(self, told: Told, view: View) -> bool:
        """Whether there was a state when the channel was subscribed."""
        if view.head is not None:
            assert view.epoch is not None
            return self.truth.has_state(told.channel, view.epoch, view.head)
        assert told.cursor is not None
        return told.channel not in decode_cursor(told.cursor, max_size=2048)

    def _take_drop(self, told: Told, view: View) -> None:
        policy = self.truth.policy(told.channel)
        assert policy.on_lag != "close", f"{told} where the namespace closes instead"
        assert view.due in (None, "maybe gap"), f"{told} while a {view.due} is due"
        begin, end = told.data["fromSeq"], told.data["toSeq"]
        assert begin == view.next, f"{told}, expected {view}"
        assert end >= begin
        assert told.data["dropped"] == end - begin + 1
        self.drops.append((told.channel, begin, end))
        view.next, view.due, view.picture = end + 1, None, None
        assert view.epoch is not None
        if policy.on_lag == "snapshot" and self.truth.has_state(told.channel, view.epoch, end):
            view.due, view.snapshot_seq, view.is_exact = "snapshot", end, True

    def _check_cursor(self, cursor: str) -> None:
        positions = decode_cursor(cursor, max_size=2048)
        for name, view in self.views.items():
            if view.next is None and view.due is None:
                view.next = positions[name].seq + 1
            if self.is_sse and view.due == "maybe gap" and view.position != positions.get(name):
                raise AssertionError(f"cursor says {positions.get(name)} of {name}, known is {view}")
            assert positions.get(name) == view.position, (
                f"cursor says {positions.get(name)} of {name}, known is {view}"
            )
        assert set(positions) <= set(self.views), "a cursor of what is not subscribed"

    def check_complete(self) -> None:
        """Nothing more is to come: all that was published has been told."""
        assert not self.asked, f"not answered: {self.asked}"
        for name, view in self.views.items():
            assert view.due in (None, "maybe gap"), f"{name}: {view} to the end"
            assert view.next is not None
            assert view.epoch is not None
            missing = len(self.truth.published[name, view.epoch]) + 1 - view.next
            assert missing == 0, f"{name}: {missing} lost in silence; known is {view}"


def cursor_of(views: Mapping[str, View]) -> str:
    return encode_cursor((name, view.position) for name, view in views.items() if view.position is not None)
