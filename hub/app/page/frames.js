/** Envelopes of version 1 as they come in (the live envelope's specification, "Envelope"). */

// The hub writes the members of an envelope in this order. Reading them off the front of the text leaves the
// payload unparsed until somebody looks at it: of thousands a second, the page shows a few.
const HEAD =
  /^\{"v":1,"event":"([^"\\]{1,64})","channel":"([^"\\]{1,64})","seq":(\d{1,16}),"ts":(\d{1,16}),"ok":true,"data":/;

/** One event. `at` is when it came in, by this machine's clock; `data` is parsed when it is first asked for. */
export class Frame {
  #text;
  #data;

  constructor(event, channel, seq, ts, { text = null, data = undefined, errorCode = null } = {}) {
    this.event = event;
    this.channel = channel;
    this.seq = seq;
    this.ts = ts;
    this.errorCode = errorCode;
    this.at = Date.now();
    this.#text = text;
    this.#data = data;
  }

  get data() {
    if (this.#text !== null) {
      this.#data = parse(this.#text)?.data;
      this.#text = null;
    }
    return this.#data;
  }
}

/** The event in `text`, or null for what is not a valid envelope. */
export function readFrame(text) {
  const head = HEAD.exec(text);
  return head === null
    ? toFrame(parse(text))
    : new Frame(head[1], head[2], Number(head[3]), Number(head[4]), { text });
}

/** The event in a parsed envelope, or null. */
export function toFrame(envelope) {
  if (envelope === null || typeof envelope !== "object" || envelope.v !== 1) return null;
  const { event, channel, seq, ts, data, errorCode } = envelope;
  if (typeof event !== "string" || typeof channel !== "string") return null;
  if (!Number.isSafeInteger(seq) || seq < 0 || !Number.isFinite(ts)) return null;
  return new Frame(event, channel, seq, ts, { data, errorCode });
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
