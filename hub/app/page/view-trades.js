/** Trades as a tape, the newest on top. */

import { el, setAttribute, setText, updateRows } from "./dom.js";
import { decimal, timeOfDay } from "./format.js";
import { tradesOf } from "./shapes.js";

const KEPT = 60;

function makeTrade() {
  const cells = ["time", "price", "amount"].map((name) => el("span", { class: `num ${name}` }));
  const row = el("div", { class: "trade" }, el("span", { class: "depth" }), ...cells);
  row.cells = cells;
  return row;
}

export class TradesView {
  #trades = [];
  #tape = el("div", { class: "tape", tabindex: 0, role: "region", "aria-label": "Last trades" });
  #share = el("span", { class: "fill" });
  #told = el("span", { class: "num faint" });

  constructor() {
    const head = el(
      "div",
      { class: "trade head" },
      ...["Time", "Price", "Amount"].map((text) => el("span", {}, text)),
    );
    const balance = el("div", { class: "pressure" }, el("span", { class: "balance" }, this.#share), this.#told);
    this.element = el("div", {}, balance, head, this.#tape);
  }

  push(frame) {
    if (frame.event === "snapshot") this.#trades = []; // it holds the newest of what was there
    for (const trade of tradesOf(frame.data)) this.#trades.unshift({ ts: frame.ts, ...trade });
    if (this.#trades.length > KEPT) this.#trades.length = KEPT;
  }

  render() {
    const largest = Math.max(0, ...this.#trades.map(({ amount }) => Number(amount))) || 1;
    updateRows(this.#tape, this.#trades, makeTrade, (row, { ts, price, amount, side }) => {
      const [time, ...cells] = row.cells;
      setAttribute(row, "data-move", side === "sell" ? "down" : "up");
      setText(time, timeOfDay(ts));
      setText(cells[0], decimal(price));
      setText(cells[1], decimal(amount));
      row.firstElementChild.style.width = `${(Number(amount) / largest) * 100}%`;
    });
    this.#tellPressure();
  }

  #tellPressure() {
    const sum = (side) =>
      this.#trades.reduce((total, trade) => (trade.side === side ? total + Number(trade.amount) : total), 0);
    const [buy, sell] = [sum("buy"), sum("sell")];
    const share = buy + sell ? (buy / (buy + sell)) * 100 : 50;
    this.#share.style.width = `${share}%`;
    setText(this.#told, `${Math.round(share)} % bought, of the last ${this.#trades.length}`);
  }
}
