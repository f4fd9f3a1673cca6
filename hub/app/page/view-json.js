/** Any payload: the newest one in full, and a line for each of the last events. */

import { el, setText, updateRows } from "./dom.js";
import { compact, count, timeOfDay } from "./format.js";

const EVENTS = 20;
/** More than this of one payload is not written out. */
const MAX_TEXT = 8_000;
const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/g;

/** JSON in colours, as nodes. */
function highlight(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(TOKEN)) {
    const [whole, string, colon, word] = match;
    const name = colon ? "key" : string ? "string" : word ? "word" : "number";
    nodes.push(text.slice(end, match.index), el("span", { class: name }, string ?? whole));
    if (colon) nodes.push(colon);
    end = match.index + whole.length;
  }
  return [...nodes, text.slice(end)];
}

/** Short lists stay on a line: `[["1", "2"]]` is easier to read so. */
function pretty(data) {
  const text = JSON.stringify(data, null, 2) ?? "null";
  const folded = text.replace(/\[\s+([^[\]{}]{1,60}?)\s+\]/g, (_, inner) => `[${inner.replace(/\s+/g, " ")}]`);
  return folded.length > MAX_TEXT
    ? `${folded.slice(0, MAX_TEXT)}\n… ${count(folded.length - MAX_TEXT)} more characters`
    : folded;
}

function makeEvent() {
  const [seq, time, name, data] = ["num seq", "num faint", "faint", "mono ellipsis"].map((kind) =>
    el("span", { class: kind }),
  );
  const row = el("li", {}, seq, time, name, data);
  row.cells = { seq, time, name, data };
  return row;
}

function updateEvent({ cells }, frame) {
  setText(cells.seq, count(frame.seq));
  setText(cells.time, timeOfDay(frame.ts));
  setText(cells.name, frame.event);
  setText(cells.data, compact(frame.data, 160));
}

export class JsonView {
  #frames = [];
  #text = el("pre", { class: "json", tabindex: 0, "aria-label": "Newest payload" });
  #events = el("ol", { class: "events" });
  #isNew = false;

  constructor() {
    this.element = el("div", {}, this.#text, el("h3", {}, `Last ${EVENTS} events`), this.#events);
  }

  push(frame) {
    this.#frames.unshift(frame);
    if (this.#frames.length > EVENTS) this.#frames.pop();
    this.#isNew = true;
  }

  render() {
    if (!this.#isNew) return;
    this.#isNew = false;
    this.#text.replaceChildren(...highlight(pretty(this.#frames[0].data)));
    updateRows(this.#events, this.#frames, makeEvent, updateEvent);
  }
}
