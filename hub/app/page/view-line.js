/** Tickers and best quotes: the number large, its way through the last events, and the other members beside. */

import { el, setAttribute, setText, Sparkline } from "./dom.js";
import { decimal, percent, signed } from "./format.js";

const KEPT = 200;

class LineView {
  #values = [];
  #line = new Sparkline(400, 120, "way tall");
  #high = el("span", { class: "num faint high" });
  #low = el("span", { class: "num faint low" });
  #facts = el("dl", { class: "facts" });
  #last = null;

  constructor(head) {
    const chart = el("div", { class: "chart" }, this.#line.element, this.#high, this.#low);
    this.element = el("div", {}, head, chart, this.#facts);
  }

  push({ data }) {
    this.#values.push(this.valueOf(data));
    if (this.#values.length > KEPT) this.#values.shift();
    this.#last = data;
  }

  render() {
    if (this.#last === null) return;
    this.tell(this.#last);
    const [low, high] = [Math.min(...this.#values), Math.max(...this.#values)];
    this.#line.draw(this.#values);
    setText(this.#high, decimal(high));
    setText(this.#low, low === high ? "" : decimal(low));
    this.#tellFacts(this.facts(this.#last));
  }

  #tellFacts(facts) {
    if (this.#facts.children.length !== facts.length) {
      this.#facts.replaceChildren(
        ...facts.map(([name]) => el("div", {}, el("dt", {}, name), el("dd", { class: "num" }))),
      );
    }
    facts.forEach(([, value], index) => setText(this.#facts.children[index].lastElementChild, decimal(value)));
  }
}

export class TickerView extends LineView {
  #price;
  #change;

  constructor() {
    const price = el("span", { class: "num" });
    const change = el("span", { class: "num chip" });
    super(el("div", { class: "headline" }, price, change));
    this.#price = price;
    this.#change = change;
  }

  valueOf(data) {
    return Number(data.last);
  }

  tell(data) {
    setText(this.#price, decimal(data.last));
    setText(this.#change, `${signed(decimal(data.change))}  ${percent(data.change, data.openPrice)}`);
    setAttribute(this.#change, "data-move", Number(data.change) < 0 ? "down" : "up");
  }

  facts({ bid, ask, high, low, vol, quoteVol, openPrice, tradeCount }) {
    const all = {
      Bid: bid,
      Ask: ask,
      High: high,
      Low: low,
      Volume: vol,
      "Quote volume": quoteVol,
      Open: openPrice,
      Trades: tradeCount,
    };
    return Object.entries(all).filter(([, value]) => value !== undefined);
  }
}

export class QuoteView extends LineView {
  #sides;

  constructor() {
    const sides = ["bid", "ask"].map((name) => {
      const price = el("span", { class: "num price" });
      const amount = el("span", { class: "num faint" });
      return {
        price,
        amount,
        element: el("div", { class: `quote-side ${name}` }, el("span", { class: "faint" }, name), price, amount),
      };
    });
    super(el("div", { class: "headline quotes" }, ...sides.map(({ element }) => element)));
    this.#sides = sides;
  }

  valueOf({ bid, ask }) {
    return (Number(bid) + Number(ask)) / 2;
  }

  tell({ bid, bidQty, ask, askQty }) {
    [
      [bid, bidQty],
      [ask, askQty],
    ].forEach(([price, amount], index) => {
      setText(this.#sides[index].price, decimal(price));
      setText(this.#sides[index].amount, decimal(amount));
    });
  }

  facts({ bid, ask }) {
    const spread = Number(ask) - Number(bid);
    return [
      ["Spread", String(Number(spread.toPrecision(8)))],
      ["Spread, %", ((spread / Number(ask)) * 100).toFixed(4)],
    ];
  }
}
