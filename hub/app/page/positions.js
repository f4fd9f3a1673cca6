/**
 * Where we are in each channel, and the proof of it: after seq N of an epoch comes N+1, or the stream says what
 * is missing. Whatever else happens is counted as lost or repeated, and both should stay at 0.
 *
 * A position is `{epoch, seq, floor, isNew, next}`. `seq` is null while it is unknown where the channel begins for
 * us; then `floor` is where it was shortly before, and `isNew` that we have not read it at all yet. `next` names the epoch that the hub is in when it is another one
 * than ours and has not told us the consequence yet.
 */
export class Positions {
  #positions = new Map();

  constructor() {
    this.counts = { events: 0, lost: 0, repeated: 0, dropped: 0, gaps: 0, missed: 0, restarts: 0 };
  }

  get(channel) {
    return this.#positions.get(channel);
  }

  forget(channel) {
    this.#positions.delete(channel);
  }

  /** A lastSeq for those of `channels` that we have been in. */
  lastSeq(channels) {
    const seen = {};
    for (const channel of channels) {
      const position = this.#positions.get(channel);
      const seq = position?.seq ?? position?.floor;
      if (seq !== undefined && !position.isNew) seen[channel] = { seq, epoch: position.epoch };
    }
    return seen;
  }

  /** We are about to read a channel without being told where it is; a listing knew it to be here a moment ago.
   * Whoever goes on from there, before the channel's first event, can only get more. */
  assume(channel, { seq, epoch }) {
    if (!this.#positions.has(channel))
      this.#positions.set(channel, { epoch, seq: null, floor: seq, isNew: true });
  }

  /** We have read all `channels` for the first time. */
  arrived(channels) {
    for (const channel of channels) delete this.#positions.get(channel)?.isNew;
  }

  /** The hub has subscribed us and says where the channel is. */
  subscribed(channel, { seq, epoch }) {
    const position = this.#positions.get(channel);
    if (position === undefined || position.isNew) this.#positions.set(channel, { epoch, seq });
    else if (position.epoch !== epoch) position.next = epoch;
  }

  /** Takes an event of a channel; whether it is news, rather than a notice or something that came before. */
  accept(frame) {
    const position = this.#positions.get(frame.channel);
    if (position === undefined) return false; // of a channel that we have left
    if (frame.event === "gap") return this.#gap(position, frame.data);
    if (frame.event === "backpressure_drop") return this.#drop(position, frame.data);
    if (position.next !== undefined) this.#restart(position, position.next);
    if (frame.event === "covered") {
      this.#step(position, frame.seq); // it came on another channel
      return false;
    }
    const isNews =
      frame.event === "snapshot" ? this.#snapshot(position, frame.seq) : this.#step(position, frame.seq);
    if (isNews) this.counts.events += 1;
    return isNews;
  }

  #step(position, seq) {
    if (position.seq !== null && seq <= position.seq) {
      this.counts.repeated += 1;
      return false;
    }
    if (position.seq !== null) this.counts.lost += seq - position.seq - 1;
    position.seq = seq;
    return true;
  }

  /** A snapshot stands for all up to its number. */
  #snapshot(position, seq) {
    position.seq = Math.max(position.seq ?? 0, seq);
    return true;
  }

  #gap(position, { reason, fromSeq, toSeq, epoch }) {
    if (reason === "epoch") {
      this.#restart(position, epoch);
      return false;
    }
    this.counts.gaps += 1;
    this.counts.missed += toSeq === null ? 0 : toSeq - fromSeq + 1;
    this.#expect(position, fromSeq);
    Object.assign(position, { epoch, seq: toSeq });
    delete position.next;
    return false;
  }

  #drop(position, { fromSeq, toSeq, dropped }) {
    this.counts.dropped += dropped;
    this.#expect(position, fromSeq);
    position.seq = toSeq;
    return false;
  }

  /** A notice names what is missing exactly; what lies before that should have come. */
  #expect(position, fromSeq) {
    if (position.seq !== null) this.counts.lost += Math.max(0, fromSeq - position.seq - 1);
  }

  #restart(position, epoch) {
    this.counts.restarts += 1;
    Object.assign(position, { epoch, seq: null });
    delete position.next;
    delete position.floor;
  }
}
