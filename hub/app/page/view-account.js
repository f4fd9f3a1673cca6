/** What a user has of their own: open orders, fills, balances. */

import { el, setAttribute, setText, updateRows } from "./dom.js";
import { decimal, timeOfDay, trimmed } from "./format.js";

const KEPT_FILLS = 60;

/** A table; `columns` are `[heading, class, text of an item]`. */
class Table {
  #columns;
  #body = el("tbody");
  #empty;

  constructor(columns, empty) {
    this.#columns = columns;
    const heads = columns.map(([heading, name]) => el("th", { scope: "col", class: name }, heading));
    this.#empty = el("p", { class: "faint" }, empty);
    const table = el("table", { class: "account" }, el("thead", {}, el("tr", {}, ...heads)), this.#body);
    this.element = el("div", { class: "scroll", tabindex: 0 }, table, this.#empty);
  }

  show(items, directionOf = () => null) {
    this.#empty.hidden = items.length > 0;
    const make = () => el("tr", {}, ...this.#columns.map(([, name]) => el("td", { class: name })));
    updateRows(this.#body, items, make, (row, item) => {
      setAttribute(row, "data-move", directionOf(item) ?? "");
      this.#columns.forEach(([, , textOf], index) => setText(row.children[index], textOf(item)));
    });
  }
}

const bySide = ({ side }) => (side === "sell" ? "down" : "up");
const money = (value) => trimmed(decimal(value));

export class OrdersView {
  #orders = null;
  #table = new Table(
    [
      ["Market", "", ({ market }) => market ?? ""],
      ["Side", "side", ({ side }) => side ?? ""],
      ["Price", "num", ({ price, type }) => (type === "market" ? "market" : decimal(price))],
      ["Filled", "num faint", ({ filled }) => decimal(filled)],
      ["Amount", "num", ({ amount }) => decimal(amount)],
      ["Placed", "num faint", ({ createdAt }) => (createdAt === undefined ? "" : timeOfDay(createdAt))],
    ],
    "No open orders.",
  );
  element = this.#table.element;

  /** Takes all that are open. */
  show(orders) {
    this.#orders = orders;
  }

  render() {
    if (this.#orders === null) return;
    this.#table.show([...this.#orders].reverse(), bySide);
    this.#orders = null;
  }
}

export class FillsView {
  #fills = [];
  #table = new Table(
    [
      ["Time", "num faint", ({ ts }) => timeOfDay(ts)],
      ["Market", "", ({ market }) => market ?? ""],
      ["Side", "side", ({ side }) => side ?? ""],
      ["Price", "num", ({ price }) => decimal(price)],
      ["Amount", "num", ({ amount }) => decimal(amount)],
      ["Fee", "num faint", ({ fee, feeAsset }) => (fee === undefined ? "" : `${money(fee)} ${feeAsset ?? ""}`)],
      ["", "faint", ({ isMaker }) => (isMaker ? "maker" : "taker")],
    ],
    "No fills yet.",
  );
  element = this.#table.element;

  push(frame) {
    for (const fill of Array.isArray(frame.data) ? frame.data : [frame.data]) {
      this.#fills.unshift({ ts: frame.ts, ...fill });
    }
    if (this.#fills.length > KEPT_FILLS) this.#fills.length = KEPT_FILLS;
  }

  render() {
    this.#table.show(this.#fills, bySide);
  }
}

export class BalancesView {
  #balances = null;
  #table = new Table(
    [
      ["Asset", "strong", ({ asset }) => asset],
      ["Available", "num", ({ available }) => money(available)],
      ["Locked", "num faint", ({ locked }) => money(locked)],
      ["Total", "num strong", ({ total }) => money(total)],
    ],
    "No assets.",
  );
  element = this.#table.element;

  /** Takes all assets. */
  show(balances) {
    this.#balances = balances;
  }

  render() {
    if (this.#balances === null) return;
    this.#table.show(this.#balances);
    this.#balances = null;
  }
}
