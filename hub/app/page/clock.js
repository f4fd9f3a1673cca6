/** Time between the hub and here: their clocks need not agree, so a ping's answer says how they differ. */

const MAX_SAMPLES = 512;

export class HubClock {
  roundTrip = null;
  #pingedAt = null;
  #skew = 0;
  #best = Infinity;

  /** A ping goes out now. */
  pinged() {
    this.#pingedAt = Date.now();
  }

  /** Its answer carries the hub's time. The quickest one says best how far the clocks are apart. */
  ponged(hubTime, at) {
    if (this.#pingedAt === null) return;
    this.roundTrip = at - this.#pingedAt;
    if (this.roundTrip <= this.#best) {
      this.#best = this.roundTrip;
      const skew = hubTime - (this.#pingedAt + at) / 2;
      // Within what the trip took there is no telling.
      this.#skew = Math.abs(skew) <= this.roundTrip / 2 + 1 ? 0 : skew;
    }
    this.#pingedAt = null;
  }

  /** A time of this machine, by the hub's clock. */
  toHub(time) {
    return time + this.#skew;
  }
}

/** The median of what was measured during the last second, in ms; null before there is any. */
export class Latency {
  median = null;
  #samples = [];
  #next = 0;

  add(ms) {
    this.#samples[this.#next++ % MAX_SAMPLES] = Math.max(0, ms);
  }

  /** Called once a second. */
  settle() {
    const sorted = this.#samples.slice(0, this.#next).sort((a, b) => a - b);
    if (sorted.length) this.median = sorted[sorted.length >> 1];
    this.#samples = [];
    this.#next = 0;
  }
}
