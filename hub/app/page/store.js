/** What the page shows of each channel. Events only mark and count; reading and drawing happen at the page's pace. */

import { typeOf } from "./channels.js";
import { openState } from "./states.js";

/** Seconds of rate that are kept, for the small curves. */
export const RATE_SAMPLES = 48;
/** A rate is the mean of so many seconds. */
const SMOOTHING = 3;
/** Events that wait for the detail view; the oldest go first. */
const QUEUE_SIZE = 200;

class Rate {
  samples = [];
  #count = 0;

  add() {
    this.#count += 1;
  }

  settle(seconds) {
    this.samples.push(this.#count / seconds);
    if (this.samples.length > RATE_SAMPLES) this.samples.shift();
    this.#count = 0;
  }

  get perSecond() {
    const last = this.samples.slice(-SMOOTHING);
    return last.reduce((sum, sample) => sum + sample, 0) / (last.length || 1);
  }
}

class Channel {
  frame = null;
  isDirty = true;
  rate = new Rate();
  #kind = null;
  #state = null;

  constructor(name) {
    this.name = name;
    this.type = typeOf(name);
  }

  /** What the hub says the channel's state is: "book", "trades", "last" ... */
  get kind() {
    return this.#kind;
  }

  describe(kind) {
    if (kind === undefined || kind === this.#kind) return;
    this.#kind = kind;
    this.#state = openState(kind);
  }

  take(frame) {
    this.frame = frame;
    this.isDirty = true;
    this.rate.add();
    if (frame.data !== undefined && frame.data !== null) this.#state?.take(frame);
  }

  /** What the events so far come to: the payload to show. Null while that is not known. */
  get value() {
    return this.#state === null ? (this.frame?.data ?? null) : this.#state.value;
  }

  /** How old the last event is, by the hub's clock; null before the first. */
  age(hubTime) {
    return this.frame === null ? null : hubTime - this.frame.ts;
  }
}

export class Store {
  channels = new Map();
  total = new Rate();
  /** Events of the selected channel since they were last taken. */
  #queue = [];
  #selected = null;
  #settledAt = performance.now();

  /** The channel of that name, made when there is none. */
  open(name) {
    let channel = this.channels.get(name);
    if (channel === undefined) this.channels.set(name, (channel = new Channel(name)));
    return channel;
  }

  /** `kind`: what the hub says of the channel's state, where it has said so. */
  take(frame, kind) {
    const channel = this.open(frame.channel);
    channel.describe(kind);
    channel.take(frame);
    this.total.add();
    if (frame.channel !== this.#selected) return;
    this.#queue.push(frame);
    if (this.#queue.length > QUEUE_SIZE * 2) this.#queue.splice(0, QUEUE_SIZE);
  }

  /** An event of the past, for a channel that has none. */
  fill(frame) {
    const channel = this.open(frame.channel);
    if (channel.frame === null) Object.assign(channel, { frame, isDirty: true });
  }

  select(name) {
    this.#selected = name;
    this.#queue = [];
  }

  takeQueue() {
    const queue = this.#queue.slice(-QUEUE_SIZE);
    this.#queue = [];
    return queue;
  }

  /** Keeps those that are listed or followed. `listed` says of what kind each is. */
  keep(listed, followed) {
    for (const name of this.channels.keys()) {
      if (!listed.has(name) && !followed.has(name)) this.channels.delete(name);
    }
    for (const [name, { snapshot }] of listed) this.open(name).describe(snapshot);
    for (const name of followed) this.open(name);
  }

  /** Once a second. */
  settle() {
    const now = performance.now();
    const seconds = Math.max(0.1, (now - this.#settledAt) / 1000);
    this.#settledAt = now;
    this.total.settle(seconds);
    for (const channel of this.channels.values()) channel.rate.settle(seconds);
  }
}
