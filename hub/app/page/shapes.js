/** What a payload is, judged by its members, and how it is told in one line of the list. */

import { el, setAttribute, setText, svg } from "./dom.js";
import { brief, compact, decimal, percent } from "./format.js";

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** Shapes of states that may be empty lists, by their kind. */
const OF_KIND = { trades: "trades", orders: "orders", balances: "balances" };

/** The shape of a payload: "trades", "book", "candle", "quote", "ticker", "orders", "fills", "balances", "tokens",
 * "job" or "json". `kind`: what the hub says of the channel's state. */
export function shapeOf(data, kind = null) {
  if (kind in OF_KIND) return OF_KIND[kind];
  const first = Array.isArray(data) ? data[0] : data;
  if (!isObject(first)) return "json";
  if ("orderId" in first && "status" in first) return "orders";
  if ("orderId" in first && "tradeId" in first) return "fills";
  if ("asset" in first && "available" in first) return "balances";
  if ("price" in first && "amount" in first && "side" in first) return "trades";
  if (Array.isArray(data)) return "json";
  if (Array.isArray(data.bids) && Array.isArray(data.asks)) return "book";
  if ("open" in data && "high" in data && "low" in data && "close" in data) return "candle";
  if ("bidQty" in data && "askQty" in data) return "quote";
  if ("last" in data && ("bid" in data || "change" in data)) return "ticker";
  if ("messageId" in data && ("token" in data || "text" in data)) return "tokens";
  if (typeof data.progress === "number") return "job";
  return "json";
}

/** The trades of a payload, which may be one or a list, oldest first. */
export const tradesOf = (data) => (Array.isArray(data) ? data : [data]);

const span = (name, ...children) => el("span", { class: name }, ...children);

/** Says in an attribute whether a number went up or down; the style sheet does the rest. */
function direct(element, value) {
  const number = Number(value);
  const before = Number(element.dataset.value);
  element.dataset.value = number;
  if (Number.isFinite(before) && number !== before) element.dataset.move = number > before ? "up" : "down";
}

function ticker() {
  const last = span("num strong");
  const change = span("num chip");
  const volume = span("faint optional");
  const update = (data) => {
    setText(last, decimal(data.last));
    direct(last, data.last);
    setText(change, percent(data.change, data.openPrice));
    setAttribute(change, "data-move", Number(data.change) < 0 ? "down" : "up");
    change.hidden = change.textContent === "";
    setText(volume, data.vol === undefined ? "" : `vol ${decimal(data.vol)}`);
  };
  return { parts: [last, change, volume], update };
}

function quote() {
  const [bid, ask] = [span("num strong up"), span("num strong down")];
  const [bidQty, askQty] = [span("num faint optional"), span("num faint optional")];
  const update = (data) => {
    setText(bid, decimal(data.bid));
    setText(ask, decimal(data.ask));
    setText(bidQty, decimal(data.bidQty));
    setText(askQty, decimal(data.askQty));
  };
  return { parts: [bidQty, bid, span("faint", "/"), ask, askQty], update };
}

const BALANCE_LEVELS = 10;
const sum = (levels) => levels.slice(0, BALANCE_LEVELS).reduce((total, [, amount]) => total + Number(amount), 0);

function book() {
  const [bid, ask] = [span("num strong up"), span("num strong down")];
  const bar = span("fill");
  const balance = el(
    "span",
    { class: "balance", title: `amounts of the best ${BALANCE_LEVELS} levels, bids against asks` },
    bar,
  );
  const update = ({ bids, asks }) => {
    setText(bid, bids.length ? decimal(bids[0][0]) : "–");
    setText(ask, asks.length ? decimal(asks[0][0]) : "–");
    const [buy, sell] = [sum(bids), sum(asks)];
    bar.style.width = `${buy + sell ? (buy / (buy + sell)) * 100 : 50}%`;
  };
  return { parts: [bid, balance, ask], update };
}

function trades() {
  const [side, price, amount, more] = [span("side"), span("num strong"), span("num"), span("faint")];
  const update = (data) => {
    const list = tradesOf(data);
    const trade = list.at(-1);
    if (trade === undefined) return setText(more, "no trade yet");
    setText(side, trade.side);
    for (const element of [side, price])
      setAttribute(element, "data-move", trade.side === "sell" ? "down" : "up");
    setText(price, decimal(trade.price));
    setText(amount, decimal(trade.amount));
    setText(more, "");
  };
  return { parts: [side, price, span("faint", "×"), amount, more], update };
}

/** One candle, as high as `height`, with its wick. */
function glyph(height) {
  const wick = svg("rect", { class: "wick", x: 4.5, width: 1, y: 0, height });
  const body = svg("rect", { class: "body", x: 1.5, width: 7 });
  const element = svg("svg", { class: "glyph", width: 10, height, "aria-hidden": "true" }, wick, body);
  const update = ({ open, high, low, close }) => {
    const [o, h, l, c] = [open, high, low, close].map(Number);
    const y = (price) => (h === l ? height / 2 : ((h - price) / (h - l)) * height);
    const top = y(Math.max(o, c));
    body.setAttribute("y", top.toFixed(1));
    body.setAttribute("height", Math.max(1, y(Math.min(o, c)) - top).toFixed(1));
    setAttribute(element, "data-move", c < o ? "down" : "up");
  };
  return { element, update };
}

function candle() {
  const picture = glyph(18);
  const values = ["o", "h", "l", "c"].map((name) => {
    const value = span("num");
    return { value, part: span(name === "c" ? "ohlc strong" : "ohlc optional", span("faint", name), value) };
  });
  const update = (data) => {
    picture.update(data);
    [data.open, data.high, data.low, data.close].forEach((price, i) => setText(values[i].value, decimal(price)));
  };
  return { parts: [picture.element, ...values.map(({ part }) => part)], update };
}

function job() {
  const bar = span("fill");
  const [percentage, stage] = [span("num"), span("ellipsis")];
  const update = (data) => {
    const progress = Math.max(0, Math.min(100, data.progress));
    bar.style.width = `${progress}%`;
    setText(percentage, `${Math.round(progress)} %`);
    setText(stage, data.stage ?? data.status ?? "");
  };
  return { parts: [span("progress", bar), percentage, stage], update };
}

function tokens() {
  const [id, text] = [span("faint"), span("ellipsis quote")];
  const update = (data) => {
    setText(id, data.messageId);
    setText(text, data.text ?? `…${data.token}`);
  };
  return { parts: [id, text], update };
}

function json() {
  const text = span("mono ellipsis");
  return { parts: [text], update: (data) => setText(text, compact(data)) };
}

function orders() {
  const [number, text] = [span("num strong"), span("faint ellipsis")];
  const update = (data) => {
    const open = tradesOf(data);
    const sells = open.filter(({ side }) => side === "sell").length;
    setText(number, `${open.length} open`);
    setText(text, open.length ? `${open.length - sells} to buy, ${sells} to sell` : "");
  };
  return { parts: [number, text], update };
}

function fills() {
  const [side, price, amount, market] = [span("side"), span("num strong"), span("num"), span("faint optional")];
  const update = (data) => {
    const fill = tradesOf(data).at(-1);
    setText(side, fill.side);
    for (const element of [side, price])
      setAttribute(element, "data-move", fill.side === "sell" ? "down" : "up");
    setText(price, decimal(fill.price));
    setText(amount, decimal(fill.amount));
    setText(market, fill.market ?? "");
  };
  return { parts: [side, price, span("faint", "×"), amount, market], update };
}

function balances() {
  const text = span("num ellipsis");
  const update = (data) =>
    setText(text, data.map(({ asset, total }) => `${brief(total)} ${asset}`).join(" · "));
  return { parts: [text], update };
}

const SUMMARIES = { ticker, quote, book, trades, candle, orders, fills, balances, job, tokens, json };

/** The cell of a row that tells the last value; it changes its parts when the payload changes its shape. */
export class Summary {
  #shape = null;
  #update = null;

  constructor() {
    this.element = span("value");
  }

  show(data, kind) {
    const shape = shapeOf(data, kind);
    if (shape !== this.#shape) {
      const { parts, update } = SUMMARIES[shape]();
      this.element.replaceChildren(...parts);
      this.element.dataset.shape = shape;
      this.#shape = shape;
      this.#update = update;
    }
    this.#update(data);
  }

  /** The channel has trouble instead of a value. */
  fail(errorCode) {
    this.#shape = "error";
    this.element.replaceChildren(span("strong down", errorCode));
  }

  say(text) {
    if (this.#shape === null) setText(this.element, text);
  }
}
