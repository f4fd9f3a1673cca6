// The state of a channel as a client keeps it: a snapshot, and what each event does to it (channels.md).
// tests/soak/states.py is the same in Python.

/** Frames that can be undone, so that the state can be compared at the seq of the hub's own snapshot. */
const HISTORY = 4000;
const TRADES = 50;
const CLOSED = new Set(["filled", "cancelled", "expired", "rejected"]);
const KINDS = { orderbook: "book", trades: "trades", orders: "orders", balances: "balances", fills: "none" };

export const kindOf = (channel) => KINDS[channel.split("@")[0]] ?? "last";

const keyed = (list, key) => new Map(list.map((item) => [item[key], item]));
const listed = (data) => (Array.isArray(data) ? data : [data]);

function load(kind, data) {
  if (kind === "book") return { bids: new Map(data.bids), asks: new Map(data.asks) };
  if (kind === "orders") return keyed(data, "orderId");
  return kind === "balances" ? keyed(data, "asset") : data;
}

/** The state after an event; changed in place where that can be. null stays unknown. */
function fold(kind, state, data) {
  if (kind === "last" || kind === "none") return data;
  if (state === null) return null;
  if (kind === "book") {
    for (const side of ["bids", "asks"]) {
      for (const [price, amount] of data[side] ?? []) {
        /^[0.]*$/.test(amount) ? state[side].delete(price) : state[side].set(price, amount);
      }
    }
  } else if (kind === "trades") {
    return [...state, ...data].slice(-TRADES);
  } else if (kind === "orders") {
    for (const order of listed(data)) {
      state.delete(order.orderId);
      if (!CLOSED.has(order.status)) state.set(order.orderId, order);
    }
  } else {
    for (const balance of listed(data)) state.set(balance.asset, balance);
  }
  return state;
}

function copied(kind, state) {
  if (state === null) return null;
  if (kind === "book") return { bids: new Map(state.bids), asks: new Map(state.asks) };
  return kind === "orders" || kind === "balances" ? new Map(state) : state;
}

/** As JSON: maps become lists of pairs. */
function plain(kind, state) {
  if (kind === "book") return { bids: [...state.bids], asks: [...state.asks] };
  return state instanceof Map ? Object.fromEntries(state) : state;
}

/** The states of one channel at each of its last seqs: an old one, and the frames since. */
export class History {
  constructor(kind) {
    this.kind = kind;
    this.clear();
  }

  /** Another history has begun. */
  clear() {
    this.frames = [];
    this.base = null;
    this.baseSeq = -1;
  }

  /** `what`: "snapshot", "event", or "lost", after which the state is unknown. */
  add(seq, what, data) {
    this.frames.push({ seq, what, data });
    if (this.frames.length > 2 * HISTORY) {
      for (const frame of this.frames.splice(0, HISTORY)) {
        this.base = this.step(this.base, frame);
        this.baseSeq = frame.seq;
      }
    }
  }

  /** The state at `seq` as JSON can say it; null where it is not known (any more). */
  at(seq) {
    if (seq < this.baseSeq) return null;
    let [state, reached] = [copied(this.kind, this.base), this.baseSeq];
    for (const frame of this.frames) {
      if (frame.seq > seq) break;
      state = this.step(state, frame);
      reached = frame.seq;
    }
    const isKnown = reached === seq && state !== null && !(this.kind === "trades" && state.includes(null));
    return isKnown ? plain(this.kind, state) : null;
  }

  step(state, { what, data }) {
    if (what === "snapshot") return load(this.kind, data);
    if (what === "lost") return this.kind === "trades" ? Array(TRADES).fill(null) : null;
    return fold(this.kind, state, data);
  }
}
