/** An order book as a ladder: asks above, bids below, each with the depth that has piled up to it. */

import { el, setText, updateRows } from "./dom.js";
import { decimal, decimals } from "./format.js";

const LEVELS = 11;

function makeLevel() {
  const [price, amount, total] = ["price", "amount", "total"].map((name) => el("span", { class: `num ${name}` }));
  const row = el("div", { class: "level" }, el("span", { class: "depth" }), price, amount, total);
  row.cells = { price, amount, total };
  return row;
}

function updateLevel(row, { price, amount, total, share }) {
  const { cells } = row;
  const isSamePrice = cells.price.dataset.price === price;
  row.classList.toggle("fresh", isSamePrice && cells.amount.dataset.amount !== amount);
  cells.price.dataset.price = price;
  cells.amount.dataset.amount = amount;
  setText(cells.price, decimal(price));
  setText(cells.amount, decimal(amount));
  setText(cells.total, decimal(total));
  row.firstElementChild.style.width = `${share * 100}%`;
}

/** The best levels with their running totals. */
function pile(levels) {
  const places = Math.max(0, ...levels.map(([, amount]) => decimals(amount)));
  let total = 0;
  return levels.map(([price, amount]) => {
    total += Number(amount);
    return { price, amount: String(amount), sum: total, total: total.toFixed(places) };
  });
}

export class BookView {
  #asks = el("div", { class: "half asks" });
  #bids = el("div", { class: "half bids" });
  #middle = el("span", { class: "num strong" });
  #spread = el("span", { class: "num faint" });
  #book = null;

  constructor() {
    const head = el(
      "div",
      { class: "level head" },
      ...["Price", "Amount", "Total"].map((text) => el("span", {}, text)),
    );
    const middle = el("div", { class: "middle" }, this.#middle, this.#spread);
    this.element = el("div", { class: "ladder" }, head, this.#asks, middle, this.#bids);
  }

  /** Takes a whole book. */
  show(book) {
    this.#book = book;
  }

  render() {
    if (this.#book === null) return;
    const bids = pile(this.#book.bids.slice(0, LEVELS));
    const asks = pile(this.#book.asks.slice(0, LEVELS));
    const deepest = Math.max(bids.at(-1)?.sum ?? 0, asks.at(-1)?.sum ?? 0) || 1;
    for (const level of [...bids, ...asks]) level.share = level.sum / deepest;
    updateRows(this.#asks, asks.reverse(), makeLevel, updateLevel);
    updateRows(this.#bids, bids, makeLevel, updateLevel);
    this.#tellSpread(this.#book.bids[0], this.#book.asks[0]);
    this.#book = null;
  }

  #tellSpread(bid, ask) {
    if (bid === undefined || ask === undefined) {
      setText(this.#middle, bid || ask ? "one side only" : "empty");
      setText(this.#spread, "");
      return;
    }
    const places = Math.max(decimals(bid[0]), decimals(ask[0]));
    const spread = Number(ask[0]) - Number(bid[0]);
    const middle = Number(bid[0]) + spread / 2;
    setText(this.#middle, decimal(middle.toFixed(places + 1)));
    setText(
      this.#spread,
      `spread ${decimal(spread.toFixed(places))} · ${((spread / middle) * 100).toFixed(3)} %`,
    );
  }
}
