"""A session: the core's view of one client that stays connected. It obeys commands and keeps time; what it
writes goes through its Writer."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import trio

from hub.core.contracts import Answering, Audible, Link
from hub.core.fair_use import Allowance
from hub.core.subscription import Subscription
from hub.core.writer import Writer
from hub.sansio.commands import (
    Authenticate,
    ChannelState,
    Command,
    Ping,
    Subscribe,
    Subscribed,
    Unsubscribe,
)
from hub.sansio.drops import DropWindow
from hub.sansio.encodings import Encoding
from hub.sansio.errors import CloseCode, ErrorCode, ProtocolViolated, RequestRefused
from hub.sansio.identity import Identity

if TYPE_CHECKING:
    from hub.core.broker import Broker

logger = logging.getLogger(__name__)

#: A heartbeat comes at least this often, in seconds, also on a busy connection (live-envelope.md says 10).
HEARTBEAT_AT_LEAST = 9.0
#: Timers are looked at once a second, so what is due in between goes out a little early.
TICK = 1.0


#: Seconds that a client has to take the answer to its own farewell.
GOODBYE_DEADLINE = 5.0


@attrs.frozen
class Farewell:
    """Why the hub ends a session, when the client may come back, and how long it has to take the news."""

    code: int
    msg: str
    retry_after_ms: int = 0
    deadline: float = 5.0


class Session:
    """One client. Made by ``Broker.serve_session`` and lives as long as that call."""

    def __init__(
        self,
        broker: Broker,
        link: Link,
        encoding: Encoding,
        *,
        connection_id: str,
        identity: Identity,
        transport: str,
    ) -> None:
        self.broker = broker
        self.link = link
        self.protocol = encoding.protocol
        self.connection_id = connection_id
        self.identity = identity
        self.transport = transport
        self.subscriptions: dict[str, Subscription] = {}
        self.farewell: Farewell | None = None
        #: How it ended where there was no farewell: the client left, or vanished.
        self.end_code = CloseCode.NORMAL
        self.writer = Writer(
            link,
            encoding,
            self.subscriptions,
            transport=transport,
            max_cursor=broker.limits.cursor_size,
            counts=broker.counts,
            now_ms=broker.now_ms,
            on_drop=self._lost,
            on_broken=self.abandon,
        )
        self.opened_at = self._kept_alive_at = self._heartbeat_at = trio.current_time()
        self.tier = broker.tiers.find(identity.tier)
        self._allowance = Allowance(self.tier)
        self._is_expiry_told = False
        #: Events that it lost by its slowness, and that it got or lost on channels that it has left.
        self.dropped = 0
        self._advanced = 0
        self._drops: DropWindow | None = None
        self._reading = trio.CancelScope()
        self._scope = trio.CancelScope()

    @property
    def log_fields(self) -> dict[str, Any]:
        fields = {"connId": self.connection_id, "transport": self.transport}
        return fields if self.identity.user is None else {**fields, "userId": self.identity.user}

    @property
    def sent(self) -> int:
        """How many events it was given."""
        advanced = sum(subscription.advanced for subscription in self.subscriptions.values())
        return max(0, self._advanced + advanced - self.dropped)

    # --- life ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serves the client until it leaves, breaks the protocol or is disconnected. Whatever happens to the
        link ends here."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                self.writer.nursery = nursery
                try:
                    self.writer.flush()
                    with self._reading:
                        await self._read_commands()
                    if self.farewell is not None:
                        await self._say_goodbye(self.farewell)
                    elif isinstance(self.link, Answering):
                        await self._answer_goodbye(self.link)
                finally:
                    # The scheduler may still come by before the subscriptions are gone.
                    self.writer.retire()
                nursery.cancel_scope.cancel()

    def disconnect(self, farewell: Farewell) -> None:
        """Ends the session politely: says why, then closes. Data that is still due is not sent any more."""
        if self.farewell is not None:
            return
        self.farewell = farewell
        self.writer.mute()
        if farewell.code not in (CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_UTF8):
            self.writer.say(
                self.protocol.disconnecting(
                    farewell.code, farewell.msg, farewell.retry_after_ms, self.broker.now_ms()
                )
            )
        self._reading.cancel()

    def abandon(self) -> None:
        """Ends the session at once: its link is broken, or its client takes nothing."""
        self.end_code = CloseCode.ABNORMAL
        self.writer.retire()
        self._scope.cancel()

    async def _say_goodbye(self, farewell: Farewell) -> None:
        with trio.move_on_after(farewell.deadline):
            try:
                await self.writer.wait_flushed()
                await self.link.aclose(farewell.code, farewell.msg)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def _answer_goodbye(self, link: Answering) -> None:
        # Nothing may come after the answer, and a message that was cut must be finished before.
        self.writer.mute()
        with trio.move_on_after(GOODBYE_DEADLINE):
            try:
                await self.writer.wait_flushed()
                await link.answer_close()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    # --- commands -----------------------------------------------------------------------------------------

    async def _read_commands(self) -> None:
        try:
            while True:
                message = await self.link.receive()
                if self.farewell is not None:
                    return
                await self._take(message)
                # The next command waits until this one's answer was taken: a client that does not read is not
                # listened to either, and the outbox stays short.
                await self.writer.wait_flushed()
        except ProtocolViolated as violation:
            self.disconnect(Farewell(violation.code, violation.msg))
        except trio.EndOfChannel:
            pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.end_code = CloseCode.ABNORMAL
        except Exception:
            logger.exception("session failed", extra=self.log_fields)
            self.disconnect(Farewell(CloseCode.INTERNAL, "internal error"))

    async def _take(self, message: str | bytes) -> None:
        try:
            command = self.protocol.parse(message, self.broker.protocol_limits)
        except RequestRefused as refusal:
            self.broker.counts.received["invalid"] += 1
            if self._is_within_rates(None, refusal.request_id):
                self._refuse(refusal)
            return
        self.broker.counts.received[type(command).__name__.lower()] += 1
        if self._is_within_rates(command, command.id):
            try:
                await self._obey(command)
            except RequestRefused as refusal:
                refusal.request_id = command.id
                self._refuse(refusal)

    def _refuse(self, refusal: RequestRefused) -> None:
        self.writer.say(self.protocol.refused(refusal, self.broker.now_ms()))

    def _is_within_rates(self, command: Command | None, request_id: int | None) -> bool:
        """Counts a message. One too many is answered with an error; too many of those end the session."""
        now = trio.current_time()
        if (limit := self._allowance.take(command, now)) is None:
            return True
        self.broker.counts.rate_limited[limit] += 1
        logger.warning("rate limit exceeded", extra={**self.log_fields, "limit": limit})
        msg = f"rate limit exceeded: {getattr(self.tier, limit)} {limit} per second"
        self._refuse(RequestRefused(ErrorCode.RATE_LIMITED, msg, request_id=request_id))
        if self._allowance.note_violation(now):
            retry_after_ms = int(self.tier.retry_after * 1000)
            self.disconnect(Farewell(CloseCode.RATE_LIMITED, "rate limit exceeded", retry_after_ms))
        return False

    async def _obey(self, command: Command) -> None:
        now = self.broker.now_ms()
        match command:
            case Subscribe():
                unprepared = await self.prepare(command.channels)
                outcome = self.subscribe(command, unprepared)
                self.writer.say(self.protocol.subscribed(command, outcome, now))
            case Unsubscribe():
                self.unsubscribe(command.channels)
                self.writer.say(self.protocol.unsubscribed(command, now))
            case Ping():
                self.writer.say(self.protocol.pong(command, now))
            case Authenticate():
                self.become(await self.broker.verify_token(command.token))
                self.writer.say(self.protocol.authenticated(command, self.identity, now))

    async def prepare(self, names: Iterable[str]) -> Mapping[str, RequestRefused]:
        """Has the states of channels brought whose beginning the hub has not seen; says which cannot be had."""
        first_states = self.broker.first_states
        wanted = [name for name in names if name not in self.subscriptions]
        lacking = first_states.lacking(wanted, self.identity)
        return await first_states.prepare(lacking) if lacking else {}

    def subscribe(self, command: Subscribe, unprepared: Mapping[str, RequestRefused]) -> Subscribed:
        """Subscribes to what it can. A channel that is subscribed already stays as it is."""
        errors: list[RequestRefused] = []
        states: dict[str, ChannelState] = {}
        for name in command.channels:
            try:
                if name in unprepared:
                    raise unprepared[name]
                subscription = self.subscriptions.get(name) or self._add(name, command)
            except RequestRefused as refusal:
                errors.append(refusal)
            else:
                states[name] = subscription.state
        status = "ok" if not errors else "partial" if states else "error"
        self.broker.counts.subscribe_requests[status] += 1
        logger.info("subscribe", extra={**self.log_fields, "channels": list(states), "refused": len(errors)})
        return Subscribed(tuple(states), tuple(errors), states, self.writer.gatherer.cursor())

    def _add(self, name: str, command: Subscribe) -> Subscription:
        tier, usage, user = self.tier, self.broker.usage, self.identity.user
        if tier.channels_per_connection and len(self.subscriptions) >= tier.channels_per_connection:
            msg = f"at most {tier.channels_per_connection} channels per connection"
            raise RequestRefused(ErrorCode.TOO_MANY_SUBSCRIPTIONS, msg, channel=name)
        if user is not None and 0 < tier.channels_per_user <= usage.channels[user]:
            msg = f"at most {tier.channels_per_user} channels per user"
            raise RequestRefused(ErrorCode.TOO_MANY_SUBSCRIPTIONS, msg, channel=name)
        channel = self.broker.open(name, self.identity)
        subscription = Subscription(self.writer, channel, command.seen.get(name), trio.current_time())
        self.subscriptions[name] = subscription
        channel.subscriptions[subscription] = None
        usage.count_channels(user, 1)
        return subscription

    def unsubscribe(self, names: Iterable[str]) -> None:
        """Lets go of channels; those that are not subscribed are passed over."""
        left = [
            subscription for name in names if (subscription := self.subscriptions.pop(name, None)) is not None
        ]
        for subscription in left:
            self._advanced += subscription.advanced
            self.broker.registry.leave(subscription)
        self.broker.usage.count_channels(self.identity.user, -len(left))
        if left:
            gone = [subscription.channel.name for subscription in left]
            logger.info("unsubscribe", extra={**self.log_fields, "channels": gone})

    # --- who it is ----------------------------------------------------------------------------------------

    def become(self, identity: Identity) -> None:
        """The client has brought new credentials. Raises RequestRefused (40102) where they are somebody else's."""
        before = self.identity
        if before.user is not None and identity.user != before.user:
            raise RequestRefused(ErrorCode.FORBIDDEN, "this connection belongs to another user")
        usage = self.broker.usage
        if before.user is None:
            self.broker.check_user_connections(identity)
            self._check_user_channels(identity)
        if identity.tier != before.tier:
            self.tier = self.broker.tiers.find(identity.tier)
            self._allowance.adopt(self.tier)
        self.identity = identity
        self._is_expiry_told = False
        if before.user is None:
            usage.count_connection(identity.user, 1)
            usage.count_channels(identity.user, len(self.subscriptions))
        logger.info("authenticated", extra={**self.log_fields, "tier": identity.tier})
        self._revoke_what_is_not_allowed()

    def _check_user_channels(self, identity: Identity) -> None:
        """Raises RequestRefused (40003) where the user would have more channels with those of this connection than
        its tier allows."""
        limit = self.broker.tiers.find(identity.tier).channels_per_user
        if identity.user is None or not limit:
            return
        if self.broker.usage.channels[identity.user] + len(self.subscriptions) > limit:
            raise RequestRefused(ErrorCode.TOO_MANY_SUBSCRIPTIONS, f"at most {limit} channels per user")

    def _revoke_what_is_not_allowed(self) -> None:
        for name in list(self.subscriptions):
            try:
                self.broker.registry.check(name, self.identity)
            except RequestRefused as refusal:
                self.unsubscribe([name])
                self.writer.say(self.protocol.revoked(refusal, self.broker.now_ms()))

    def _has_expired(self) -> bool:
        """Whether its credentials ended so long ago that it must go."""
        rules = self.broker.limits.expiry
        return rules.closes and self._seconds_left < -rules.grace

    def _warn_of_expiry(self) -> None:
        rules = self.broker.limits.expiry
        is_near = bool(rules.warning) and self._seconds_left < rules.warning
        if rules.closes and is_near and not self._is_expiry_told:
            assert self.identity.expires_at is not None
            self._is_expiry_told = True
            expires_at_ms = int(self.identity.expires_at * 1000)
            self.writer.say(self.protocol.token_expiring(expires_at_ms, self.broker.now_ms()))

    @property
    def _seconds_left(self) -> float:
        """Until its credentials expire."""
        expires_at = self.identity.expires_at
        return math.inf if expires_at is None else expires_at - self.broker.now_ms() / 1000

    # --- time ---------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """What is due by the clock; called about once a TICK."""
        if self.farewell is not None or self.writer.is_muted:  # it is leaving
            return
        self.writer.drop_excess()
        limits = self.broker.limits
        if limits.write_deadline and now - self.writer.blocked_since > limits.write_deadline:
            logger.warning("client takes nothing", extra=self.log_fields)
            self.broker.counts.slow_disconnects += 1
            self.farewell = Farewell(CloseCode.INTERNAL, "client takes nothing")
            self.abandon()
        elif (
            limits.idle_timeout
            and isinstance(self.link, Audible)
            and now - self.link.last_heard > limits.idle_timeout
        ):
            self.disconnect(Farewell(CloseCode.GOING_AWAY, "idle"))
        elif self._has_expired():
            self.disconnect(Farewell(CloseCode.UNAUTHENTICATED, "token expired"))
        elif not self.writer.outbox:  # else it has not taken the last one yet
            self._warn_of_expiry()
            self._keep_alive(now)
            self._beat(now)
            self.writer.flush()

    def _keep_alive(self, now: float) -> None:
        frame, interval = self.link.keepalive
        if frame and now - self._kept_alive_at > interval - TICK:
            self._kept_alive_at = now
            self.writer.outbox.append(frame)

    def _beat(self, now: float) -> None:
        silence = self.protocol.heartbeat_interval
        if silence is None or self.link.keepalive_is_enough:
            return
        if (
            now - self.writer.last_sent > silence - TICK
            or now - self._heartbeat_at > HEARTBEAT_AT_LEAST - TICK
        ):
            heartbeat = self.protocol.heartbeat(self.writer.gatherer.cursor(), self.broker.now_ms())
            if heartbeat is not None:
                self._heartbeat_at = now
                self.writer.say(heartbeat)

    # --- slowness -----------------------------------------------------------------------------------------

    def _lost(self, count: int) -> None:
        """The client lost ``count`` events by its slowness."""
        counts, rules, now = self.broker.counts, self.broker.limits.slow, trio.current_time()
        counts.dropped["slow_consumer"] += count
        self.dropped += count
        if self.farewell is not None:
            return
        if self._drops is None:
            self._drops = DropWindow(rules)
        verdict = self._drops.add(count, now)
        if any(subscription.must_close for subscription in self.subscriptions.values()):
            verdict = "close"
        if verdict == "close":
            counts.slow_disconnects += 1
            logger.warning("slow consumer disconnected", extra=self.log_fields)
            self.disconnect(Farewell(CloseCode.INTERNAL, "slow consumer", deadline=rules.close_deadline))
        elif verdict == "warn":
            counts.slow_warnings += 1
            logger.warning("slow consumer", extra=self.log_fields)
            dropped = self._drops.dropped(rules.warn_window, now)
            self.writer.say(self.protocol.slow_consumer(dropped, rules.warn_window, self.broker.now_ms()))
