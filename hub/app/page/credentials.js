/**
 * Who the user says they are: a token (JWT) or an API key, kept in this tab until it is closed. It travels in a
 * header and nowhere else; where a browser cannot set one, a ticket that is good for one request goes into the URL.
 */

const KEY = "hub.credentials";
const NOTICE = "hub.notice";

export class Credentials {
  #base;
  #text = "";

  constructor(base) {
    this.#base = base;
    this.#text = remember(KEY) ?? "";
  }

  get areSet() {
    return this.#text !== "";
  }

  /** For `fetch`. */
  get headers() {
    return this.areSet ? headersOf(this.#text) : {};
  }

  /** Whose `text` is. Throws an Error with the hub's words where it is nobody's. */
  async check(text) {
    const response = await fetch(new URL("/channels", this.#base), { headers: headersOf(text), cache: "no-store" });
    const body = await response.json();
    if (!response.ok) throw new Error(body.msg);
    if (!body.user) throw new Error("the hub does not know whose that is");
    return body.user;
  }

  /** A way in for `url`, with a ticket where there are credentials. Throws `{code, msg, retryAfterMs}`. */
  async admit(url) {
    if (!this.areSet) return url;
    const response = await fetch(new URL("/ticket", this.#base), { method: "POST", headers: this.headers });
    const body = await response.json();
    if (!response.ok) {
      const seconds = Number(response.headers.get("retry-after"));
      throw { code: body.code, msg: body.msg, retryAfterMs: seconds ? seconds * 1000 : undefined };
    }
    const admitted = new URL(url);
    admitted.search += `${admitted.search ? "&" : "?"}ticket=${encodeURIComponent(body.ticket)}`;
    return admitted;
  }

  /** From the next page on. */
  keep(text) {
    keep(KEY, text);
  }

  /** Forgets them, and tells the next page why. */
  forget(notice = "") {
    this.#text = "";
    keep(KEY, null);
    keep(NOTICE, notice || null);
  }

  /** What the page before this one had to say. Once. */
  takeNotice() {
    const notice = remember(NOTICE);
    keep(NOTICE, null);
    return notice;
  }
}

/** A JWT has three parts; an API key is anything else. What cannot stand in a header is nobody's. */
function headersOf(text) {
  if (!/^[\x21-\x7e]+$/.test(text)) throw new Error("that is neither a token nor a key");
  const isToken = /^[\w-]+\.[\w-]+\.[\w-]+$/.test(text);
  return { authorization: `${isToken ? "Bearer" : "ApiKey"} ${text}` };
}

function remember(name) {
  try {
    return sessionStorage.getItem(name);
  } catch {
    return null; // this browser keeps nothing for anyone
  }
}

function keep(name, text) {
  try {
    if (text === null) sessionStorage.removeItem(name);
    else sessionStorage.setItem(name, text);
  } catch {
    // as above
  }
}
