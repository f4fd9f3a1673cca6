/** The corner of the page where one signs in and out. Either way the page begins anew, so nothing of one user is
 * left for the next. */

import { setText } from "./dom.js";

export class Account {
  #root;
  #credentials;
  #user = undefined;

  constructor(root, credentials) {
    this.#root = root;
    this.#credentials = credentials;
    this.#part("form").addEventListener("submit", (event) => this.#signIn(event));
    this.#part(".leave").addEventListener("click", () => this.#leave());
    addEventListener("click", ({ target }) => root.contains(target) || (root.open = false));
    root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !root.open) return;
      root.open = false;
      this.#part("summary").focus();
      event.stopPropagation();
    });
    const notice = credentials.takeNotice();
    if (notice !== null) this.#fail(notice);
  }

  /** The hub takes the credentials no longer. */
  dismiss(reason) {
    this.#leave(`Signed out: ${reason || "the credentials are not valid any more"}.`);
  }

  /** `user`: who the hub says that we are, or null. */
  render(user) {
    if (user === this.#user) return;
    this.#user = user;
    setText(this.#part("summary .who"), user ?? "Sign in");
    this.#root.dataset.user = user ?? "";
    this.#part("form").hidden = this.#part(".hint").hidden = user !== null;
    this.#part(".signed-in").hidden = user === null;
  }

  async #signIn(event) {
    event.preventDefault();
    const input = this.#part("input");
    try {
      await this.#credentials.check(input.value.trim());
    } catch (error) {
      return this.#fail(`Not accepted: ${error.message}.`);
    }
    this.#credentials.keep(input.value.trim());
    input.value = "";
    location.reload();
  }

  #leave(notice) {
    this.#credentials.forget(notice);
    location.reload();
  }

  #fail(text) {
    this.#root.open = true;
    setText(this.#part(".refusal"), text);
    this.#part(".refusal").hidden = false;
  }

  #part(selector) {
    return this.#root.querySelector(selector);
  }
}
