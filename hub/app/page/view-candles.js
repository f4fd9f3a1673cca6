/** Candles, with the way of the close through the newest of them. */

import { el, Sparkline, setAttribute, setText, svg } from "./dom.js";
import { decimal, minuteOfDay } from "./format.js";

const KEPT = 40;
const CLOSES = 300;
const [WIDTH, HEIGHT] = [400, 190];

export class CandlesView {
  #candles = new Map();
  #closes = [];
  #chart = svg("svg", {
    class: "candles",
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  });
  #high = el("span", { class: "num faint high" });
  #low = el("span", { class: "num faint low" });
  #from = el("span", { class: "num faint" });
  #until = el("span", { class: "num faint" });
  #way = new Sparkline(WIDTH, 56, "way");
  #facts = new Map();

  constructor() {
    const list = el("dl", { class: "facts" });
    for (const name of ["Open", "High", "Low", "Close", "Volume", "Trades"]) {
      const fact = el("dd", { class: "num" }, "–");
      this.#facts.set(name, fact);
      list.append(el("div", {}, el("dt", {}, name), fact));
    }
    this.element = el(
      "div",
      {},
      el("div", { class: "chart" }, this.#chart, this.#high, this.#low),
      el("div", { class: "axis" }, this.#from, this.#until),
      el("div", { class: "caption faint" }, "Close, by event"),
      this.#way.element,
      list,
    );
  }

  push({ data }) {
    this.#candles.set(data.openTime ?? 0, data);
    if (this.#candles.size > KEPT) this.#candles.delete(this.#candles.keys().next().value);
    this.#closes.push(Number(data.close));
    if (this.#closes.length > CLOSES) this.#closes.shift();
  }

  render() {
    const candles = [...this.#candles.values()];
    if (!candles.length) return;
    const last = candles.at(-1);
    this.#draw(candles);
    setText(this.#from, minuteOfDay(candles[0].openTime ?? 0));
    setText(this.#until, last.closed ? "closed" : "open");
    this.#way.draw(this.#closes);
    const values = [last.open, last.high, last.low, last.close, last.vol, last.tradeCount];
    [...this.#facts.values()].forEach((fact, index) => setText(fact, decimal(values[index])));
  }

  #draw(candles) {
    const high = Math.max(...candles.map((candle) => Number(candle.high)));
    const low = Math.min(...candles.map((candle) => Number(candle.low)));
    const y = (price) => 10 + ((high - Number(price)) / (high - low || 1)) * (HEIGHT - 20);
    // A lone candle stays a candle: never wider than this.
    const step = Math.min(26, WIDTH / candles.length);
    const begin = WIDTH - step * candles.length;
    this.#chart.replaceChildren(
      ...[0.25, 0.5, 0.75].map((part) =>
        svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: part * HEIGHT, y2: part * HEIGHT }),
      ),
      ...candles.map((candle, index) => this.#candle(candle, begin + step * (index + 0.5), step, y)),
    );
    setText(this.#high, decimal(candles.find((candle) => Number(candle.high) === high).high));
    setText(this.#low, decimal(candles.find((candle) => Number(candle.low) === low).low));
  }

  #candle({ open, high, low, close }, x, step, y) {
    const [top, bottom] = [Math.min(y(open), y(close)), Math.max(y(open), y(close))];
    const wick = svg("line", { class: "wick", x1: x, x2: x, y1: y(high), y2: y(low) });
    const body = svg("rect", {
      class: "body",
      x: x - step * 0.35,
      width: step * 0.7,
      y: top,
      height: Math.max(1.5, bottom - top),
    });
    const group = svg("g", {}, wick, body);
    setAttribute(group, "data-move", Number(close) < Number(open) ? "down" : "up");
    return group;
  }
}
