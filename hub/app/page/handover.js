/** A switch from one transport to another, and what came of it. */

export class Handover {
  /** When the next event came, in ms after the switch; null before. */
  ms = null;
  isDismissed = false;
  #before;
  #channels;
  #wentOn = new Set();
  #begun = Date.now();

  /** `last`: the newest event, or null; `counts` and `channels`: how things stand at the switch. */
  constructor(from, to, { last, counts, channels }) {
    this.from = from;
    this.to = to;
    this.at = last && { channel: last.channel, seq: last.seq };
    this.#before = { ...counts };
    this.#channels = channels;
  }

  /** An event came. */
  notice(frame) {
    this.ms ??= frame.at - this.#begun;
    if (this.#wentOn.size < this.#channels) this.#wentOn.add(frame.channel);
  }

  /** Events lost and repeated since, and how many channels have gone on. */
  result({ lost, repeated, events }) {
    return {
      lost: lost - this.#before.lost,
      repeated: repeated - this.#before.repeated,
      events: events - this.#before.events,
      wentOn: this.#wentOn.size,
    };
  }
}
