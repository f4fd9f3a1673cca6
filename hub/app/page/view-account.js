/** What a user has of their own: open orders, fills, balances. An entry has two lines, so that long decimals fit. */

import { el, setAttribute, setText, updateRows } from "./dom.js";
import { decimal, timeOfDay, trimmed } from "./format.js";

const KEPT_FILLS = 60;

/** A list of entries: `describe(item)` gives the texts of the four corners, the direction and the share of the bar. */
class Entries {
  #describe;
  #rows = el("div");
  #empty;

  constructor(describe, empty) {
    this.#describe = describe;
    this.#empty = el("p", { class: "faint" }, empty);
    this.element = el("div", { class: "entries", tabindex: 0 }, this.#rows, this.#empty);
  }

  show(items) {
    this.#empty.hidden = items.length > 0;
    updateRows(this.#rows, items, makeEntry, (row, item) => updateEntry(row, this.#describe(item)));
  }
}

function makeEntry() {
  const [name, figure, note, detail] = ["strong", "num strong figure-cell", "faint", "num faint"].map((kind) =>
    el("span", { class: kind }),
  );
  const bar = el("span", { class: "fill" });
  const row = el("div", { class: "entry" }, name, figure, note, detail, el("span", { class: "share" }, bar));
  row.cells = { name, figure, note, detail, bar };
  return row;
}

function updateEntry(row, { name, figure, note, detail, move = "", share = null }) {
  const { cells } = row;
  setText(cells.name, name);
  setText(cells.figure, figure);
  setText(cells.note, note);
  setText(cells.detail, detail);
  setAttribute(row, "data-move", move);
  cells.bar.parentElement.hidden = share === null;
  cells.bar.style.width = `${(share ?? 0) * 100}%`;
}

const moveOf = (side) => (side === "sell" ? "down" : "up");
const money = (value) => trimmed(decimal(value));
const words = (...parts) => parts.filter(Boolean).join(" · ");
const ratio = (part, whole) => (Number(whole) ? Number(part) / Number(whole) : 0);

export class OrdersView {
  #orders = null;
  #entries = new Entries(
    ({ market, side, type, price, amount, filled, createdAt }) => ({
      name: market ?? "",
      figure: `${decimal(amount)} @ ${type === "market" ? "market" : decimal(price)}`,
      note: words(side, type, createdAt === undefined ? "" : timeOfDay(createdAt)),
      detail: `${decimal(filled)} filled`,
      move: moveOf(side),
      share: ratio(filled, amount),
    }),
    "No open orders.",
  );
  element = this.#entries.element;

  /** Takes all that are open. */
  show(orders) {
    this.#orders = orders;
  }

  render() {
    if (this.#orders === null) return;
    this.#entries.show([...this.#orders].reverse());
    this.#orders = null;
  }
}

export class FillsView {
  #fills = [];
  #entries = new Entries(
    ({ ts, market, side, price, amount, fee, feeAsset, isMaker }) => ({
      name: market ?? "",
      figure: `${decimal(amount)} @ ${decimal(price)}`,
      note: words(side, isMaker ? "maker" : "taker", timeOfDay(ts)),
      detail: fee === undefined ? "" : `fee ${money(fee)} ${feeAsset ?? ""}`,
      move: moveOf(side),
    }),
    "No fills yet.",
  );
  element = this.#entries.element;

  push(frame) {
    for (const fill of Array.isArray(frame.data) ? frame.data : [frame.data]) {
      this.#fills.unshift({ ts: frame.ts, ...fill });
    }
    if (this.#fills.length > KEPT_FILLS) this.#fills.length = KEPT_FILLS;
  }

  render() {
    this.#entries.show(this.#fills);
  }
}

export class BalancesView {
  #balances = null;
  #entries = new Entries(
    ({ asset, available, locked, total }) => ({
      name: asset,
      figure: money(total),
      note: `${money(available)} available`,
      detail: Number(locked) ? `${money(locked)} locked` : "",
      share: ratio(available, total),
    }),
    "No assets.",
  );
  element = this.#entries.element;

  /** Takes all assets. */
  show(balances) {
    this.#balances = balances;
  }

  render() {
    if (this.#balances === null) return;
    this.#entries.show(this.#balances);
    this.#balances = null;
  }
}
