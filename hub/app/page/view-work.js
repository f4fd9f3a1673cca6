/** Work in progress: an assistant's message as it is written, a job as it goes on. */

import { el, setText, updateRows } from "./dom.js";
import { timeOfDay } from "./format.js";

const MESSAGES = 6;
const STAGES = 8;

/** Tokens are put together by message. One that we came too late for begins in the middle, and says so. */
export class TokensView {
  #messages = new Map();

  constructor() {
    this.element = el("div", { class: "messages" });
  }

  push({ data }) {
    const { messageId, token, index, text } = data;
    const message = this.#messages.get(messageId) ?? { text: index > 0 ? "… " : "", isDone: false };
    this.#messages.set(messageId, message);
    if (text === undefined) message.text += token;
    else Object.assign(message, { text, isDone: true });
    if (this.#messages.size > MESSAGES) this.#messages.delete(this.#messages.keys().next().value);
  }

  render() {
    const make = () => el("p", { class: "message" });
    updateRows(this.element, [...this.#messages.values()], make, (row, { text, isDone }) => {
      setText(row, text);
      row.classList.toggle("open", !isDone);
    });
  }
}

export class JobView {
  #bar = el("span", { class: "fill" });
  #told = el("span", { class: "num" });
  #stage = el("span", { class: "strong" });
  #stages = el("ol", { class: "stages" });
  #last = null;
  #seen = [];

  constructor() {
    const head = el("div", { class: "headline" }, this.#told, this.#stage);
    this.element = el("div", {}, head, el("span", { class: "progress wide" }, this.#bar), this.#stages);
  }

  push({ data, ts }) {
    const stage = data.stage ?? data.status ?? "";
    if (this.#seen[0]?.stage !== stage) this.#seen.unshift({ stage, ts, progress: data.progress });
    if (this.#seen.length > STAGES) this.#seen.pop();
    this.#last = { ...data, stage };
  }

  render() {
    if (this.#last === null) return;
    const progress = Math.max(0, Math.min(100, this.#last.progress));
    setText(this.#told, `${Math.round(progress)} %`);
    setText(this.#stage, this.#last.stage);
    this.#bar.style.width = `${progress}%`;
    updateRows(
      this.#stages,
      this.#seen,
      () => el("li"),
      (row, { stage, ts, progress: from }) => {
        setText(row, `${timeOfDay(ts)}  ${stage}, from ${Math.round(from)} %`);
      },
    );
  }
}
