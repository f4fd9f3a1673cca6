/**
 * The three ways to the hub. A link is opened once, for a set of channels, and is thrown away when it breaks.
 *
 * It tells its owner: `opened(link)`, `received(link, frame)`, `answered(link, channels)` where these have been
 * read, however little that was, `broken(link, why)`; `why` may hold `code`,
 * `msg`, `retryAfterMs`, `limit` (the hub serves no more channels than that) and `refused` (a channel and why).
 * It asks its owner where to go on: `positions(channels)` is a lastSeq; and who it is: `credentials`.
 */

import { readFrame, toFrame } from "./frames.js";

/** The hub takes commands of up to 4 KB. */
const COMMAND_SIZE = 3900;
/** A cursor longer than this is not sent back: the hub takes 2 KB. */
const CURSOR_SIZE = 2000;
const POLL_WAIT = 25;
/** Milliseconds between an answer and the next poll, so that a busy hub is asked for batches. An answer of more
 * than some events a channel says that we lag (the hub gives each channel a share), so then at once. */
const POLL_PAUSE = 100;
const BIG_SHARE = 2;

const encoder = new TextEncoder();

export class WebSocketLink {
  #owner;
  #channels = [];
  #socket = null;
  #isClosed = false;

  constructor(owner) {
    this.#owner = owner;
  }

  open(channels, base) {
    this.#channels = channels;
    const url = new URL("/live", base);
    url.protocol = url.protocol.replace("http", "ws");
    this.#dial(url);
  }

  async #dial(url) {
    try {
      url = await this.#owner.credentials.admit(url);
    } catch (why) {
      return this.#owner.broken(this, why);
    }
    if (this.#isClosed) return;
    this.#socket = new WebSocket(url);
    this.#socket.onopen = () => {
      this.#owner.opened(this);
      this.#subscribe(this.#channels);
    };
    this.#socket.onmessage = ({ data }) => this.#owner.received(this, readFrame(data));
    this.#socket.onclose = ({ code, reason }) => this.#owner.broken(this, { code, msg: reason });
  }

  change(channels, added, removed) {
    this.#channels = channels;
    if (!this.#isOpen) return;
    if (removed.length) this.#send({ type: "unsubscribe", channels: removed });
    this.#subscribe(added);
  }

  /** Whether that is possible. */
  ping() {
    if (this.#isOpen) this.#send({ type: "ping" });
    return this.#isOpen;
  }

  close() {
    this.#isClosed = true;
    if (this.#socket === null) return;
    for (const name of ["onopen", "onmessage", "onclose"]) this.#socket[name] = null;
    this.#socket.close(1000);
  }

  get #isOpen() {
    return this.#socket !== null && this.#socket.readyState === WebSocket.OPEN;
  }

  #subscribe(channels) {
    let batch = [];
    for (const channel of channels) {
      const command = this.#command([...batch, channel]);
      if (batch.length && encoder.encode(JSON.stringify(command)).length > COMMAND_SIZE) {
        this.#send(this.#command(batch));
        batch = [];
      }
      batch.push(channel);
    }
    if (batch.length) this.#send(this.#command(batch));
  }

  #command(channels) {
    return { type: "subscribe", channels, lastSeq: this.#owner.positions(channels) };
  }

  #send(command) {
    this.#socket.send(JSON.stringify(command));
  }
}

/** The browser would reconnect by itself, with the cursor of the last event. The owner does it instead, so that
 * all three links wait, count and resume in the same way. */
export class SseLink {
  #owner;
  #base = null;
  #source = null;
  #lastWords = {};
  #opened = 0; // counts, so that a late ticket knows that it is late

  constructor(owner) {
    this.#owner = owner;
  }

  open(channels, base) {
    this.#base = base;
    if (!channels.length) return this.#owner.opened(this); // nothing to ask for yet
    this.#dial(channels);
  }

  async #dial(channels) {
    const number = ++this.#opened;
    const fields = { channels: channels.join(","), lastSeq: this.#owner.positions(channels) };
    let url = streamUrl("/sse", this.#base, fields);
    try {
      url = await this.#owner.credentials.admit(url);
    } catch (why) {
      if (number === this.#opened) this.#owner.broken(this, why);
      return;
    }
    if (number !== this.#opened) return;
    this.#source = new EventSource(url);
    this.#source.onopen = () => this.#owner.opened(this);
    this.#source.onmessage = ({ data }) => this.#receive(readFrame(data));
    this.#source.onerror = () => this.#owner.broken(this, this.#lastWords);
  }

  /** A stream's channels cannot be changed, so it is opened anew from where it was. */
  change(channels) {
    this.close();
    this.open(channels, this.#base);
  }

  ping() {
    return false;
  }

  close() {
    this.#opened += 1;
    if (this.#source !== null) {
      for (const name of ["onopen", "onmessage", "onerror"]) this.#source[name] = null;
      this.#source.close();
    }
    this.#source = null;
  }

  #receive(frame) {
    if (frame?.event === "disconnecting") this.#lastWords = frame.data ?? {};
    this.#owner.received(this, frame);
  }
}

export class PollLink {
  #owner;
  #base = null;
  #channels = [];
  #cursor = null;
  #abort = null;

  constructor(owner) {
    this.#owner = owner;
  }

  open(channels, base) {
    this.#base = base;
    this.#channels = channels;
    this.#cursor = null;
    if (!channels.length) return this.#owner.opened(this);
    this.#abort = new AbortController();
    this.#run(this.#abort.signal);
  }

  change(channels) {
    this.close();
    this.open(channels, this.#base);
  }

  ping() {
    return false;
  }

  close() {
    this.#abort?.abort();
  }

  async #run(signal) {
    try {
      // At once the first time: a channel that is new here has its place in the answer's cursor from then on.
      for (let wait = 0; !signal.aborted; wait = POLL_WAIT) {
        const events = await this.#poll(signal, wait);
        if (events === null) return;
        await pause(events > BIG_SHARE * this.#channels.length ? 0 : POLL_PAUSE);
      }
    } catch {
      if (!signal.aborted) this.#owner.broken(this, {});
    }
  }

  /** One question and its answer; how many events came, or null when it is over. */
  async #poll(signal, wait) {
    const channels = this.#channels;
    const lastSeq = this.#cursor === null ? this.#owner.positions(channels) : {};
    const url = streamUrl("/poll", this.#base, {
      channels: channels.join(","),
      cursor: this.#cursor,
      lastSeq,
      wait,
    });
    const { headers } = this.#owner.credentials;
    const response = await fetch(url, { signal, cache: "no-store", headers });
    const body = await response.json();
    if (signal.aborted) return null;
    if (!response.ok) {
      this.#owner.broken(this, refusal(response, body, channels.length));
      return null;
    }
    if (wait === 0) this.#owner.opened(this);
    for (const event of body.events) this.#owner.received(this, toFrame(event));
    this.#owner.answered(this, channels);
    this.#cursor = body.cursor.length <= CURSOR_SIZE ? body.cursor : null;
    return body.events.length;
  }
}

/** An EventSource that is refused does not say why. A poll for the same channels is refused for the same reason. */
export async function whyRefused({ credentials }, base, channels) {
  try {
    const url = streamUrl("/poll", base, { channels: channels.join(","), wait: 0 });
    const response = await fetch(url, { cache: "no-store", headers: credentials.headers });
    return response.ok ? {} : refusal(response, await response.json(), channels.length);
  } catch {
    return {};
  }
}

/** What an answer in JSON says about why it is not what was asked for. */
function refusal(response, { code, msg, channel }, size) {
  const retryAfter = Number(response.headers.get("retry-after"));
  const isTooMany = code === 40003;
  // Too many in number, or for a cursor to hold; the latter depends on their names, so it is felt for.
  const limit = isTooMany ? Number(/at most (\d+)/.exec(msg)?.[1]) || size - Math.ceil(size / 32) : null;
  const refused = channel === undefined || isTooMany ? null : { channel, msg };
  return { code, msg, limit, refused, retryAfterMs: retryAfter ? retryAfter * 1000 : undefined };
}

/** Escapes no more than must be: proxies take 8 KB, and a lastSeq is mostly punctuation. */
function streamUrl(path, base, fields) {
  const url = new URL(path, base);
  const query = [];
  for (const [name, value] of Object.entries(fields)) {
    if (value === null || (name === "lastSeq" && !Object.keys(value).length)) continue;
    const text = typeof value === "object" ? JSON.stringify(value) : String(value);
    query.push(`${name}=${encodeURIComponent(text).replace(/%(2C|3A|40|7B|7D)/g, decodeURIComponent)}`);
  }
  url.search = query.join("&");
  return url;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
