/**
 * LiveClient: one connection to the hub over whichever transport, and what is needed to trust it.
 *
 * It owns connecting, subscribing, resuming, waiting and the hand-over between transports. A user interface
 * reads its fields and gets events through `listen`; it never touches a WebSocket or an EventSource.
 *
 *   state        "connecting" | "connected" | "degraded" | "reconnecting" | "stopped"
 *   transport    the one that was asked for; `using` is the one in use, another where that does not get through
 *   listing      what the hub has for us: {user, total, channels: Map(channel -> {seq, epoch, ...})}, or null
 *                before it said so
 *   watched      channels this connection follows;  `refused`: Map(channel -> why) of those it may not
 *   counts       see Positions;  `handover`: the last switch, and what came of it
 *   retryAt      when the next try is due, Unix ms;  `reason`: what went wrong, in words
 *   latency      `.median`: ms from an event's `ts` to here;  `clock.roundTrip`: ms, by ping
 */

import { chooseChannels } from "./channels.js";
import { HubClock, Latency } from "./clock.js";
import { toFrame } from "./frames.js";
import { Handover } from "./handover.js";
import { PollLink, SseLink, WebSocketLink, whyRefused } from "./links.js";
import { Positions } from "./positions.js";

/** From the best to the one that gets through everywhere. */
export const TRANSPORTS = ["websocket", "sse", "poll"];
const LINKS = { websocket: WebSocketLink, sse: SseLink, poll: PollLink };

const BACKOFF_S = [1, 2, 4, 8, 16];
const JITTER_MS = 1000;
/** Tries of a transport, while plain HTTP works, before the next one is used. */
const TRIES = 2;
const CLIMB_MS = 30_000;
const LISTING_MS = 3_000;
const PING_MS = 10_000;
/** The hub promises a heartbeat within 10 s. */
const SILENCE_MS = 12_000;
/** Close codes after which coming back would change nothing: we are wrong, or unwanted. */
const FATAL_CODES = new Set([1000, 1002, 1003, 1007, 1009, 4001]);
/** The hub takes our credentials no longer: a close code, and answers. */
const DISMISSALS = new Set([4003, 40100, 40101]);
/** Answers to a subscribe that will be the same the next time. */
const FINAL_CODES = new Set([40001, 40002, 40100, 40101, 40102]);

export class LiveClient {
  state = "connecting";
  transport = "websocket";
  using = "websocket";
  listing = null;
  watched = new Set();
  refused = new Map();
  handover = null;
  reason = "";
  retryAt = 0;
  malformed = 0;
  latency = new Latency();
  clock = new HubClock();

  #base;
  #onDismissed;
  #link = null;
  #wasOpen = false;
  #positions = new Positions();
  #listeners = new Set();
  #focus = null;
  #limits = { websocket: Infinity, sse: Infinity, poll: Infinity }; // channels, as far as the hub has said
  #failures = 0;
  #retryTimer = null;
  #rejected = 0; // tries that failed while plain HTTP worked
  #climbedFrom = null;
  #climbAt = 0;
  #farewell = null;
  #openedAt = 0;
  #heardAt = 0;
  #last = null; // the newest event

  /** `onDismissed(reason)` is called when the hub does not take `credentials` (any more); all stops then. */
  constructor({ credentials, onDismissed, base = location.origin, transport = "websocket" }) {
    this.credentials = credentials;
    this.#onDismissed = onDismissed;
    this.#base = base;
    this.transport = this.using = transport;
  }

  get counts() {
    return this.#positions.counts;
  }

  /** How many channels the hub lets this connection follow; Infinity while it has not refused any. */
  get limit() {
    return this.#limits[this.using];
  }

  /** The position in a channel: `{epoch, seq}`, or undefined. */
  position(channel) {
    return this.#positions.get(channel);
  }

  /** Calls `listener(frame)` for each event, in order, each once. Returns how to stop that. */
  listen(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  start() {
    this.#refresh();
    setInterval(() => this.#refresh(), LISTING_MS);
    setInterval(() => this.#ping(), PING_MS);
    setInterval(() => this.#watchOver(), 1000);
    addEventListener("online", () => this.retryNow());
    this.#connect();
  }

  /** Goes on over another transport, from where each channel is. */
  switchTo(transport) {
    if (transport === this.transport && transport === this.using) return;
    this.handover = new Handover(this.using, transport, {
      last: this.#last,
      counts: this.counts,
      channels: this.watched.size,
    });
    this.transport = this.using = transport;
    this.#failures = this.#rejected = 0;
    this.#climbedFrom = null;
    this.#connect();
  }

  /** Somebody looks at this channel, so it has to be among those that are followed. */
  focusOn(channel) {
    this.#focus = channel;
    this.#choose();
  }

  /** The newest events of a channel that the hub still has, at most `limit`; [] where it cannot be had. */
  async history(channel, limit) {
    try {
      const head = (this.listing?.channels.get(channel)?.seq ?? 0) + 1; // one more may have come
      const position = this.#positions.get(channel)?.seq ?? 0;
      const url = new URL(`/history/${encodeURIComponent(channel)}`, this.#base);
      url.search = `after=${Math.max(0, Math.max(head, position) - limit)}&limit=${limit}`;
      const { events } = await (await fetch(url, { headers: this.credentials.headers })).json();
      return events.map(toFrame).filter((frame) => frame !== null);
    } catch {
      return [];
    }
  }

  /** The first of `channels` that there may be on this hub, or undefined. */
  async firstAllowed(channels) {
    for (const channel of channels) {
      const response = await fetch(new URL(`/history/${encodeURIComponent(channel)}?limit=1`, this.#base)).catch(
        () => null,
      );
      if (response?.ok) return channel;
    }
    return undefined;
  }

  /** Ends the waiting between two tries. */
  retryNow() {
    if (this.#link === null) this.#connect();
  }

  // --- what links ask and tell ---------------------------------------------------------------------------

  positions(channels) {
    return this.#positions.lastSeq(channels);
  }

  opened(link) {
    if (link !== this.#link) return;
    this.#wasOpen = true;
    this.#openedAt = this.#heardAt = Date.now();
    this.state = this.using === this.transport ? "connected" : "degraded";
    this.reason = "";
    this.#climbAt = Date.now() + CLIMB_MS;
    this.#rejected = 0;
    this.#climbedFrom = null;
    this.#ping();
  }

  answered(link, channels) {
    if (link !== this.#link) return;
    this.#hear();
    this.#positions.arrived(channels);
  }

  received(link, frame) {
    if (link !== this.#link) return;
    this.#hear();
    if (frame === null) this.malformed += 1;
    else if (frame.channel === "system") this.#obey(frame);
    else this.#take(frame);
  }

  broken(link, { code = 0, msg = "", retryAfterMs, limit = null, refused = null }) {
    if (link !== this.#link) return;
    link.close();
    this.#link = null;
    this.#failures += 1;
    if (this.#learn(limit, refused)) return this.#connect();
    if (this.credentials.areSet && DISMISSALS.has(code)) return this.#dismiss(msg);
    if (FATAL_CODES.has(code)) return this.#stop(msg);
    this.reason = msg || this.#farewell?.msg || "";
    this.#retryIn(retryAfterMs ?? this.#farewell?.retryAfterMs);
    this.#stepDown();
  }

  #hear() {
    this.#heardAt = Date.now();
    this.#failures = 0;
  }

  // --- connecting ----------------------------------------------------------------------------------------

  #connect() {
    clearTimeout(this.#retryTimer);
    this.#link?.close();
    this.#farewell = null;
    this.#wasOpen = false;
    this.retryAt = 0;
    this.state = this.#failures ? "reconnecting" : "connecting";
    this.#choose({ isSettled: false });
    if (this.using === "poll") this.#assumePositions();
    this.#link = new LINKS[this.using](this);
    this.#link.open([...this.watched], this.#base);
  }

  /** Takes note of what the hub will not serve; whether a try without that is worth it. */
  #learn(limit, refused) {
    if (limit !== null && limit < this.watched.size && limit > 0) {
      // Both are one request over HTTP, so what holds for one holds for the other.
      if (this.using === "websocket") this.#limits.websocket = limit;
      else this.#limits.sse = this.#limits.poll = limit;
      return true;
    }
    if (refused === null || !this.watched.has(refused.channel)) return false;
    this.refused.set(refused.channel, refused.msg);
    return true;
  }

  /** `advice`: when the hub says that we may come back, in ms. */
  #retryIn(advice) {
    const step = BACKOFF_S[Math.min(this.#failures, BACKOFF_S.length) - 1];
    const wait = (advice ?? step * 1000) + Math.random() * JITTER_MS;
    this.state = "reconnecting";
    this.retryAt = Date.now() + wait;
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#connect(), wait);
  }

  #stop(reason) {
    this.state = "stopped";
    this.reason = reason;
  }

  #dismiss(reason) {
    this.#stop(reason);
    this.#onDismissed(reason);
  }

  /** When the hub answers but this transport does not get through, the next one is tried. */
  async #stepDown() {
    if (this.#wasOpen) return;
    if (this.using === "sse") {
      const { code, msg, limit = null, refused = null } = await whyRefused(this, this.#base, [...this.watched]);
      if (this.#link !== null) return;
      if (refused === null && this.credentials.areSet && DISMISSALS.has(code)) return this.#dismiss(msg);
      if (this.#learn(limit, refused)) return this.#connect();
    }
    if (!(await this.#refresh({ always: true }))) {
      this.#rejected = 0;
      return;
    }
    this.#rejected += 1;
    const isClimb = this.#climbedFrom !== null;
    const next = isClimb ? this.#climbedFrom : TRANSPORTS[TRANSPORTS.indexOf(this.using) + 1];
    if (this.#link !== null || next === undefined || (this.#rejected < TRIES && !isClimb)) return;
    this.#rejected = 0;
    this.#climbedFrom = null;
    this.using = next;
    this.#connect();
  }

  #climb() {
    this.#climbedFrom = this.using;
    this.using = this.transport;
    this.#connect();
  }

  /** Once a second: silence on a link that looks alive, and the way back up. */
  #watchOver() {
    const now = Date.now();
    const isUp = this.state === "connected" || this.state === "degraded";
    const isSilent = now - this.#heardAt > SILENCE_MS && !document.hidden;
    if (isUp && isSilent) this.broken(this.#link, { msg: "nothing heard from the hub" });
    else if (this.state === "degraded" && now > this.#climbAt) this.#climb();
    this.latency.settle();
  }

  // --- channels ------------------------------------------------------------------------------------------

  #ping() {
    if (this.#link?.ping()) this.clock.pinged();
  }

  /** Asks what there is; whether the hub answered. An EventSource shows neither comments nor heartbeats, and a
   * poll may wait, so for these an answer here is the sign of life. */
  async #refresh({ always = false } = {}) {
    if (document.hidden && this.listing !== null && !always) return true;
    try {
      const response = await fetch(new URL("/channels", this.#base), {
        cache: "no-store",
        headers: this.credentials.headers,
      });
      const { user, total, channels, code, msg } = await response.json();
      if (this.credentials.areSet && DISMISSALS.has(code)) {
        this.#dismiss(msg);
        return false;
      }
      this.listing = { user, total, channels: new Map(channels.map(({ channel, ...where }) => [channel, where])) };
    } catch {
      return false;
    }
    if (this.using !== "websocket") this.#heardAt = Date.now();
    if (this.#link !== null) this.#choose();
    return true;
  }

  /** Follows what should be followed. `isSettled`: there is a link to tell of it. */
  #choose({ isSettled = true } = {}) {
    if (this.listing === null) return;
    const listed = new Map([...this.listing.channels].filter(([channel]) => !this.refused.has(channel)));
    const chosen = new Set(chooseChannels(listed, this.watched, this.#focus, this.limit));
    const added = [...chosen].filter((channel) => !this.watched.has(channel));
    const removed = [...this.watched].filter((channel) => !chosen.has(channel));
    this.watched = chosen;
    for (const channel of removed) this.#positions.forget(channel);
    if (!isSettled || !(added.length || removed.length)) return;
    if (this.using === "poll") this.#assumePositions();
    this.#link?.change([...chosen], added, removed);
  }

  /** A poll's answer does not say where a channel is that has no events, nor any epoch. */
  #assumePositions() {
    for (const channel of this.watched) {
      const where = this.listing?.channels.get(channel);
      if (where !== undefined) this.#positions.assume(channel, where);
    }
  }

  // --- events --------------------------------------------------------------------------------------------

  #obey({ event, data, ts, at }) {
    if (event === "subscribed") this.#settle(data);
    else if (event === "pong") this.clock.ponged(ts, at);
    else if (event === "disconnecting") this.#farewell = data;
    else if (event === "error") this.reason = data?.msg ?? "";
  }

  #settle({ channels, errors, positions }) {
    for (const channel of channels) this.#positions.subscribed(channel, positions[channel]);
    for (const { channel, code, msg } of errors) {
      this.watched.delete(channel);
      if (FINAL_CODES.has(code)) this.refused.set(channel, msg);
    }
    if (errors.some(({ code }) => code === 40003)) this.#limits.websocket = this.watched.size;
  }

  #take(frame) {
    if (!this.#positions.accept(frame)) return;
    this.#last = frame;
    this.handover?.notice(frame);
    const isLive = frame.event !== "snapshot" && frame.ts >= this.clock.toHub(this.#openedAt);
    if (isLive) this.latency.add(this.clock.toHub(frame.at) - frame.ts);
    for (const listener of this.#listeners) listener(frame);
  }

  /** What came of the last switch, or null. */
  get handoverResult() {
    return this.handover && this.handover.result(this.counts);
  }
}
