/** The pane of one channel: what it is saying, drawn by the shape of its payload. */

import { el, setAttribute, setText } from "./dom.js";
import { count, rate, timeOfDay } from "./format.js";
import { shapeOf } from "./shapes.js";
import { staleness } from "./staleness.js";
import { BalancesView, FillsView, OrdersView } from "./view-account.js";
import { BookView } from "./view-book.js";
import { CandlesView } from "./view-candles.js";
import { JsonView } from "./view-json.js";
import { QuoteView, TickerView } from "./view-line.js";
import { TradesView } from "./view-trades.js";
import { JobView, TokensView } from "./view-work.js";

const VIEWS = {
  book: BookView,
  trades: TradesView,
  candle: CandlesView,
  ticker: TickerView,
  quote: QuoteView,
  orders: OrdersView,
  fills: FillsView,
  balances: BalancesView,
  tokens: TokensView,
  job: JobView,
};
/** Events that are asked of the history, so that there is something to see at once. Books say little each. */
const HISTORY = { orderbook: 20, kline: 600 };
const USUAL_HISTORY = 200;
const PACE_MS = { book: 250, candle: 500, json: 250 };

/** The same channel, from a terminal or a program. */
const WAYS = {
  curl: (origin, name) => `curl -N '${origin}/sse?channels=${name}'`,
  "hub tail": (origin, name) => `hub tail ${origin} ${name}`,
  EventSource: (origin, name) =>
    `new EventSource("${origin}/sse?channels=${name}")\n  .onmessage = (e) => console.log(JSON.parse(e.data));`,
  WebSocket: (origin, name) =>
    `const ws = new WebSocket("${origin.replace("http", "ws")}/live");\n` +
    `ws.onopen = () => ws.send('{"type":"subscribe","channels":["${name}"]}');\nws.onmessage = (e) => console.log(e.data);`,
};

/** The same for a channel of one's own: a header where there can be one, else a ticket. */
const PRIVATE_WAYS = {
  curl: (origin, name) => `curl -N -H "Authorization: Bearer $TOKEN" \\\n  '${origin}/sse?channels=${name}'`,
  EventSource: (origin, name) =>
    "const headers = { authorization: `Bearer ${token}` };\n" +
    `const answer = await fetch("${origin}/ticket", { method: "POST", headers });\n` +
    "const { ticket } = await answer.json();\n" +
    `new EventSource("${origin}/sse?channels=${name}&ticket=" + ticket)\n` +
    "  .onmessage = (e) => console.log(JSON.parse(e.data));",
};

const FACTS = ["Rate", "Seq", "Event", "At", "Epoch"];

export class Detail {
  #root;
  #live;
  #store;
  #parts = null;
  #view = null;
  #json = null;
  #shape = null;
  #opened = 0; // counts, so that a late answer of the history knows that it is late
  #isSeeded = true;
  #early = []; // live events that wait for the history
  #drawnAt = 0;

  name = null;

  constructor(root, { live, store, onClose }) {
    this.#root = root;
    this.#live = live;
    this.#store = store;
    this.onClose = onClose;
  }

  open(name) {
    this.name = name;
    this.#opened += 1;
    this.#view = this.#json = this.#shape = null;
    this.#isSeeded = false;
    this.#early = [];
    this.#store.select(name);
    this.#live.focusOn(name);
    this.#build(name);
    this.#seed(this.#store.open(name), this.#opened);
  }

  close() {
    this.name = null;
    this.#store.select(null);
    this.#live.focusOn(null);
    this.#root.hidden = true;
    this.#root.replaceChildren();
  }

  /** Called about ten times a second. */
  render(now, hubTime) {
    if (this.name === null) return;
    const channel = this.#store.open(this.name);
    this.#tell(channel, hubTime);
    if (!this.#isSeeded || now - this.#drawnAt < (PACE_MS[this.#shape] ?? 100)) return;
    this.#drawnAt = now;
    this.#push(channel, [...this.#early, ...this.#store.takeQueue()]);
    this.#early = [];
    this.#view?.render();
    if (this.#parts.raw.open) this.#json?.render();
  }

  // --- the pane ------------------------------------------------------------------------------------------

  #build(name) {
    const facts = Object.fromEntries(FACTS.map((fact) => [fact, el("dd", { class: "num" }, "–")]));
    const list = el(
      "dl",
      { class: "facts" },
      ...FACTS.map((fact) => el("div", {}, el("dt", {}, fact), facts[fact])),
    );
    const age = el("span", { class: "chip age" });
    const view = el(
      "div",
      { class: "view" },
      el("p", { class: "faint waiting" }, "Waiting for the first event."),
    );
    const json = el("div");
    const raw = el("details", { class: "raw" }, el("summary", {}, "Events as they come"), json);
    const close = el(
      "button",
      {
        type: "button",
        class: "plain close",
        "aria-label": "Close",
        title: "Close (Esc)",
        onclick: () => this.onClose(),
      },
      "×",
    );
    this.#parts = { facts, age, view, json, raw };
    this.#root.replaceChildren(
      el("header", {}, el("h2", { tabindex: -1 }, name), age, close),
      list,
      view,
      raw,
      this.#ways(name),
    );
    this.#root.hidden = false;
    this.#root.scrollTop = 0;
  }

  #ways(name) {
    const text = el("pre");
    const copy = el(
      "button",
      { type: "button", class: "copy", onclick: () => copyText(text.textContent, copy) },
      "Copy",
    );
    const ways = this.#live.listing?.channels.get(name)?.private ? PRIVATE_WAYS : WAYS;
    const show = (way) => setText(text, ways[way](location.origin, name));
    const choices = Object.keys(ways).map((way, index) => {
      const input = el("input", {
        type: "radio",
        name: "way",
        value: way,
        onchange: () => show(way),
        ...(index ? {} : { checked: "" }),
      });
      return el("label", {}, input, el("span", {}, way));
    });
    show("curl");
    const tabs = el(
      "fieldset",
      { class: "segments small" },
      el("legend", { class: "unseen" }, "How to follow"),
      ...choices,
    );
    return el(
      "section",
      { class: "ways" },
      el("h3", {}, "Follow this channel yourself"),
      tabs,
      el("div", { class: "snippet" }, text, copy),
    );
  }

  #tell(channel, hubTime) {
    const { facts, age } = this.#parts;
    const { level, text } = staleness(channel.type, channel.age(hubTime));
    setText(age, text);
    setAttribute(age, "data-level", level);
    setText(facts.Rate, `${rate(channel.rate.perSecond)} / s`);
    const { frame } = channel;
    if (frame === null) return;
    setText(facts.Seq, count(frame.seq));
    setText(facts.Event, frame.event);
    setText(facts.At, timeOfDay(frame.ts));
    setText(facts.Epoch, this.#live.position(this.name)?.epoch ?? "–");
  }

  // --- events --------------------------------------------------------------------------------------------

  /** What the hub still has of the channel comes first, then what has come in meanwhile. */
  async #seed(channel, opened) {
    const past = await this.#live.history(channel.name, HISTORY[channel.type] ?? USUAL_HISTORY);
    if (opened !== this.#opened) return;
    this.#early = this.#store.takeQueue();
    const last = past.at(-1)?.seq ?? 0;
    if (!past.length && !this.#early.length && channel.frame !== null) this.#early = [channel.frame];
    this.#early = [...past, ...this.#early.filter(({ seq }) => seq > last)];
    this.#isSeeded = true;
  }

  /** Views take each event, or what all of them come to. */
  #push(channel, frames) {
    for (const frame of frames) {
      if (frame.data === undefined || frame.data === null) continue;
      this.#fit(shapeOf(frame.data, channel.kind));
      this.#view?.push?.(frame);
      this.#json.push(frame);
    }
    if (frames.length && channel.value !== null) this.#view?.show?.(channel.value);
  }

  /** Makes the view that fits the payload. JSON is what fits all, and is there in any case. */
  #fit(shape) {
    if (shape === this.#shape) return;
    const { view, raw, json } = this.#parts;
    this.#shape = shape;
    this.#json ??= new JsonView();
    json.replaceChildren(this.#json.element);
    const View = VIEWS[shape];
    this.#view = View === undefined ? null : new View();
    view.replaceChildren(...(this.#view === null ? [] : [this.#view.element]));
    view.hidden = this.#view === null;
    raw.open ||= this.#view === null;
  }
}

export async function copyText(text, button) {
  let outcome = "Copied";
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    outcome = "Press Ctrl+C"; // no clipboard outside of HTTPS and localhost
    getSelection().selectAllChildren(button.previousElementSibling);
  }
  setText(button, outcome);
  setTimeout(() => setText(button, "Copy"), 1500);
}
