/**
 * What the events of a channel come to, where the newest one alone does not say it. The hub's listing names the
 * kind ("snapshot"): of a "book" the events are changed levels, of "trades" the newest trades, of "orders" orders
 * that have changed, of "balances" assets. An event `snapshot` is the whole state; `value` is null before it.
 */

/** As many as the hub keeps. */
const TRADES = 50;
const OPEN = new Set(["new", "partially_filled"]);

class Book {
  #sides = null;
  #value = null;

  take({ event, data }) {
    if (event === "snapshot") this.#sides = { bids: new Map(), asks: new Map() };
    if (this.#sides === null) return;
    this.#value = null;
    for (const side of ["bids", "asks"]) {
      const levels = this.#sides[side];
      for (const [price, amount] of data[side] ?? []) {
        if (Number(amount) === 0) levels.delete(plain(price));
        else levels.set(plain(price), [price, amount]);
      }
    }
  }

  /** `{bids, asks}`, all levels, best first. Sorted when somebody looks. */
  get value() {
    if (this.#sides === null) return null;
    const { bids, asks } = this.#sides;
    this.#value ??= { bids: sorted(bids, -1), asks: sorted(asks, 1) };
    return this.#value;
  }
}

const sorted = (levels, sign) => [...levels.values()].sort((a, b) => sign * (Number(a[0]) - Number(b[0])));

/** A price by which its level is found: "12.50" and "12.5" are the same. */
const plain = (price) => (price.includes(".") ? price.replace(/\.?0+$/, "") : price);

class Trades {
  value = [];

  take({ event, data }) {
    this.value = event === "snapshot" ? data : [...this.value, ...data].slice(-TRADES);
  }
}

/** Records by a key; those that are over are left out. */
class Records {
  #records = null;
  #keyOf;
  #isOver;

  constructor(keyOf, isOver = () => false) {
    this.#keyOf = keyOf;
    this.#isOver = isOver;
  }

  take({ event, data }) {
    if (event === "snapshot") this.#records = new Map();
    if (this.#records === null) return;
    for (const record of Array.isArray(data) ? data : [data]) {
      const key = this.#keyOf(record);
      if (this.#isOver(record)) this.#records.delete(key);
      else this.#records.set(key, record);
    }
  }

  get value() {
    return this.#records === null ? null : [...this.#records.values()];
  }
}

const STATES = {
  book: () => new Book(),
  trades: () => new Trades(),
  orders: () =>
    new Records(
      ({ orderId }) => String(orderId),
      ({ status }) => !OPEN.has(status),
    ),
  balances: () => new Records(({ asset }) => asset),
};

/** The state of a channel of `kind`, or null where its newest event says all. */
export const openState = (kind) => STATES[kind]?.() ?? null;
