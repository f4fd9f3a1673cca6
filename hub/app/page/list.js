/** The list of channels, grouped by type. Rows are made once; what changed is written into them. */

import { groupBy, typeOf } from "./channels.js";
import { el, setAttribute, setText, Sparkline } from "./dom.js";
import { count, rate } from "./format.js";
import { Summary } from "./shapes.js";
import { staleness } from "./staleness.js";
import { RATE_SAMPLES } from "./store.js";

/** Milliseconds between two looks at a channel's value: books are slow to read. */
const PACE = { orderbook: 250 };
const USUAL_PACE = 100;
/** How long the light of a channel shines after an event. */
const LIT_MS = 350;
/** Types in the order in which people look for them; others follow by name. */
const FIRST = ["balances", "orders", "fills", "ticker", "bbo", "trades", "orderbook", "kline"];

const byName = new Intl.Collator("en", { numeric: true }).compare;

function byRank(a, b) {
  const rank = (type) => (FIRST.includes(type) ? FIRST.indexOf(type) : FIRST.length);
  return rank(a) - rank(b) || byName(a, b);
}

/** `orderbook` before `orderbook.5` before `orderbook.10`. */
function byVariant(a, b) {
  const [[variantA, marketA], [variantB, marketB]] = [a.split("@"), b.split("@")];
  return byName(variantA, variantB) || byName(marketA ?? "", marketB ?? "");
}

class Row {
  #summary = new Summary();
  #curve = new Sparkline(72, 20);
  #rate = el("span", { class: "num rate" }, "0");
  #seq = el("span", { class: "num seq" });
  #age = el("span", { class: "age num" });
  #led = el("span", { class: "led" });
  #isFollowed = null;
  #drawnAt = -Infinity;

  constructor(channel, onSelect) {
    this.channel = channel;
    const rest = channel.name.slice(channel.type.length);
    const name = el("span", { class: "name" }, el("span", { class: "type" }, channel.type), rest);
    this.button = el(
      "button",
      { type: "button", class: "row", "aria-label": channel.name, onclick: () => onSelect(channel.name) },
      this.#led,
      name,
      this.#summary.element,
      this.#curve.element,
      this.#rate,
      this.#seq,
      this.#age,
    );
    this.element = el("li", { "data-channel": channel.name }, this.button);
  }

  render(now, hubTime, why, isSelected) {
    const { channel } = this;
    setAttribute(this.button, "aria-pressed", isSelected);
    this.#follow(why);
    if (channel.isDirty && now - this.#drawnAt >= (PACE[channel.type] ?? USUAL_PACE)) this.#show(now);
    const { level, text } =
      why === null ? staleness(channel.type, channel.age(hubTime)) : { level: "none", text: "off" };
    setText(this.#age, text);
    // A light, not an animation: dozens of those at a time are more work than all the rest of the page.
    setAttribute(this.#led, "data-lit", now - this.#drawnAt < LIT_MS);
    setAttribute(this.element, "data-level", level);
  }

  #show(now) {
    this.channel.isDirty = false;
    this.#drawnAt = now;
    const { frame } = this.channel;
    if (frame === null) return;
    if (frame.errorCode) this.#summary.fail(frame.errorCode);
    else if (this.channel.value !== null) this.#summary.show(this.channel.value, this.channel.kind);
    setText(this.#seq, count(frame.seq));
    this.element.dataset.seq = frame.seq;
  }

  #follow(why) {
    const isFollowed = why === null;
    if (isFollowed !== this.#isFollowed) {
      this.#isFollowed = isFollowed;
      setAttribute(this.element, "data-followed", isFollowed);
      this.button.title = isFollowed ? "" : `${why}. Open it, and it takes the place of another.`;
    }
    this.#summary.say(isFollowed ? "no event yet" : why);
  }

  /** Once a second. */
  settle() {
    const { samples, perSecond } = this.channel.rate;
    this.#curve.draw(samples, { low: 0, high: Math.max(1, ...samples), places: RATE_SAMPLES });
    setText(this.#rate, rate(perSecond));
  }
}

class Group {
  #size = el("span", { class: "faint num" });
  #rate = el("span", { class: "faint num" });
  #rows = el("ul");
  #order = "";

  constructor(type) {
    this.element = el("section", { "data-type": type }, el("h2", {}, type, this.#size, this.#rate), this.#rows);
  }

  place(rows) {
    const order = rows.map(({ channel }) => channel.name).join(" ");
    if (order === this.#order) return;
    this.#order = order;
    this.#rows.replaceChildren(...rows.map(({ element }) => element));
    setText(this.#size, String(rows.length));
  }

  settle(rows) {
    setText(this.#rate, `${rate(rows.reduce((sum, row) => sum + row.channel.rate.perSecond, 0))} / s`);
  }
}

export class List {
  #root;
  #onSelect;
  #rows = new Map();
  #groups = new Map();
  #shown = new Map(); // type -> rows, as placed
  #key = "";

  constructor(root, onSelect) {
    this.#root = root;
    this.#onSelect = onSelect;
    root.addEventListener("keydown", (event) => this.#walk(event));
  }

  get size() {
    return [...this.#shown.values()].reduce((sum, rows) => sum + rows.length, 0);
  }

  /** Makes the rows of `channels` whose name has `filter` in it. */
  place(channels, filter) {
    const wanted = filter.trim().toLowerCase();
    const names = [...channels.keys()].filter((name) => name.toLowerCase().includes(wanted)).sort(byVariant);
    const key = names.join(" ");
    if (key === this.#key) return;
    this.#key = key;
    for (const name of this.#rows.keys()) if (!channels.has(name)) this.#rows.delete(name);
    const types = groupBy(names, typeOf);
    this.#shown = new Map(
      [...types.keys()]
        .sort(byRank)
        .map((type) => [type, types.get(type).map((name) => this.#row(channels.get(name)))]),
    );
    this.#root.replaceChildren(...[...this.#shown].map(([type, rows]) => this.#group(type, rows).element));
    this.settle();
  }

  /** `why(name)` is null for a channel that is followed, else the reason why not. */
  render(now, hubTime, why, selected) {
    for (const rows of this.#shown.values()) {
      for (const row of rows) row.render(now, hubTime, why(row.channel.name), row.channel.name === selected);
    }
  }

  settle() {
    for (const [type, rows] of this.#shown) {
      for (const row of rows) row.settle();
      this.#groups.get(type).settle(rows);
    }
  }

  focus(name) {
    this.#rows.get(name)?.button.focus();
  }

  #row(channel) {
    let row = this.#rows.get(channel.name);
    if (row?.channel !== channel) this.#rows.set(channel.name, (row = new Row(channel, this.#onSelect)));
    return row;
  }

  #group(type, rows) {
    if (!this.#groups.has(type)) this.#groups.set(type, new Group(type));
    const group = this.#groups.get(type);
    group.place(rows);
    return group;
  }

  #walk(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const row = event.target.closest(".row");
    if (step === undefined || row === null) return;
    const rows = [...this.#root.querySelectorAll(".row")];
    rows[rows.indexOf(row) + step]?.focus();
    event.preventDefault();
  }
}
