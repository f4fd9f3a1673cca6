// The simplest client that stream-v2.md allows, and what it must never see. tests/soak/follower.py is the same
// in Python; tests/soak/cases.json holds both to it.
import { History, kindOf } from "./soak_states.mjs";

const [NEXT, STATE, STATE_HERE] = ["the next number alone", "the state, later or here", "the state, exactly here"];
const NEEDS_STATE = new Set(["book", "orders", "balances"]);
const ROOM_FOR_FAILURES = 20;

class Progress {
  constructor(name) {
    this.name = name;
    this.kind = kindOf(name);
    this.seq = null;
    this.epoch = null;
    this.expects = STATE;
    this.head = null;
    this.awaitsGap = false;
    this.history = new History(this.kind);
  }

  get canResume() {
    return this.seq !== null && this.expects === NEXT;
  }
}

export class Follower {
  constructor(channels) {
    this.channels = new Map(channels.map((name) => [name, new Progress(name)]));
    this.counts = {};
    this.failures = [];
    this.fills = new Set();
  }

  count(what, number = 1) {
    this.counts[what] = (this.counts[what] ?? 0) + number;
  }

  fail(text) {
    this.count("failures");
    if (this.failures.length < ROOM_FOR_FAILURES) this.failures.push(text);
  }

  /** `lastSeq` for the next subscribe: of those channels that need no state. */
  lastSeq() {
    const known = [...this.channels.values()].filter(({ canResume, epoch }) => canResume && epoch !== null);
    return Object.fromEntries(known.map(({ name, seq, epoch }) => [name, { seq, epoch }]));
  }

  /** Takes the answer to a subscribe, of either format. */
  subscribed(positions, errors = []) {
    for (const error of errors) this.fail(`refused: ${JSON.stringify(error)}`);
    for (const [name, position] of Object.entries(positions)) this.begin(this.channels.get(name), position);
  }

  begin(progress, position) {
    progress.head = position.seq;
    progress.awaitsGap = position.recovered === false;
    if (progress.canResume) {
      this.count(progress.awaitsGap ? "unrecovered" : "resumes");
      progress.epoch ??= position.epoch;
      if (!progress.awaitsGap && position.epoch !== progress.epoch) {
        this.fail(`${progress.name}: resumed in epoch ${position.epoch}, from ${progress.epoch}`);
      }
    } else if (!progress.awaitsGap) {
      progress.seq = position.seq;
      progress.epoch = position.epoch;
      progress.expects = progress.kind === "none" ? NEXT : STATE;
    }
  }

  /** Takes a /v2 frame or an envelope. What belongs to no channel is passed over. */
  take(message) {
    const channel = message.ch ?? message.channel;
    const { event, data } = message;
    if (event === "slow_consumer") this.count("slow_consumer");
    if (event === "error") this.fail(`error: ${JSON.stringify(message)}`);
    if (channel === undefined || channel === "system") return;
    const progress = this.channels.get(channel);
    if (progress === undefined) this.fail(`${channel}: not subscribed`);
    else if (event === "backpressure_drop") this.takeDrop(progress, data);
    else if (event === "gap") this.takeGap(progress, data);
    else if (event === "snapshot" || message.type === "snapshot") this.takeSnapshot(progress, message);
    else this.takeEvent(progress, message);
  }

  takeEvent(progress, message) {
    const { seq, data } = message;
    this.count("events");
    if (progress.awaitsGap) {
      this.fail(`${progress.name}: ${seq} before the gap that was announced`);
    } else if (progress.seq !== null && seq !== progress.seq + 1) {
      this.fail(`${progress.name}: ${seq <= progress.seq ? "duplicate" : "jump"}: ${seq} after ${progress.seq}`);
    } else if (progress.expects !== NEXT && NEEDS_STATE.has(progress.kind)) {
      this.fail(`${progress.name}: ${seq} where it needs ${progress.expects}`);
    }
    progress.seq = seq;
    progress.expects = NEXT;
    if (message.type === "covered" || message.event === "covered") {
      this.count("covered");
      if (!this.channels.has(data.channel)) {
        this.fail(`${progress.name}: covered by ${data.channel}, which is not subscribed`);
      }
      progress.history.add(seq, "lost", null);
    } else {
      progress.history.add(seq, "event", data);
      if (progress.kind === "none") this.takeFill(progress, data);
    }
  }

  /** Who follows a market's fills and all fills gets each on one of the two, whatever happens in between. */
  takeFill(progress, { market, tradeId, orderId }) {
    const key = `${market} ${tradeId} ${orderId}`;
    if (this.fills.has(key)) this.fail(`${progress.name}: fill ${key} for the second time`);
    this.fills.add(key);
  }

  takeSnapshot(progress, message) {
    const { seq, epoch = progress.epoch } = message;
    this.count("snapshots");
    const isGood =
      progress.seq === null ||
      seq === progress.seq + 1 || // one that was published
      (progress.expects === STATE && seq >= progress.seq) ||
      (progress.expects === STATE_HERE && seq === progress.seq);
    if (progress.awaitsGap || !isGood) {
      this.fail(`${progress.name}: snapshot ${seq} after ${progress.seq}, expected ${progress.expects}`);
    }
    if ((message.snapshotSeq ?? seq) !== seq) {
      this.fail(`${progress.name}: snapshotSeq ${message.snapshotSeq} in frame ${seq}`);
    }
    if (epoch !== progress.epoch) progress.history.clear();
    Object.assign(progress, { seq, epoch, expects: NEXT });
    progress.history.add(seq, "snapshot", message.data);
  }

  takeDrop(progress, data) {
    const { fromSeq, toSeq, dropped } = data;
    this.count("drops");
    this.count("dropped", dropped);
    if (progress.awaitsGap || (progress.seq !== null && fromSeq !== progress.seq + 1)) {
      this.fail(`${progress.name}: drop from ${fromSeq} after ${progress.seq}`);
    }
    if (dropped !== toSeq - fromSeq + 1 || toSeq < fromSeq) {
      this.fail(`${progress.name}: inexact drop ${JSON.stringify(data)}`);
    }
    if (progress.kind === "none") {
      this.fail(`${progress.name}: dropped, though it has no state to make up for it: ${JSON.stringify(data)}`);
    }
    progress.seq = toSeq;
    progress.expects = NEEDS_STATE.has(progress.kind) ? STATE_HERE : NEXT;
    progress.history.add(toSeq, "lost", null);
  }

  takeGap(progress, data) {
    const { reason, fromSeq, toSeq, epoch } = data;
    this.count("gaps");
    this.count(`gap ${reason}`);
    if (progress.seq !== null && fromSeq !== progress.seq + 1) {
      this.fail(`${progress.name}: gap from ${fromSeq} after ${progress.seq}`);
    }
    if (reason === "evicted" && (toSeq === null || toSeq < fromSeq)) {
      this.fail(`${progress.name}: inexact gap ${JSON.stringify(data)}`);
    }
    progress.awaitsGap = false;
    if (epoch !== progress.epoch) progress.history.clear();
    progress.epoch = epoch;
    progress.seq = toSeq ?? progress.head;
    if (progress.kind === "none") progress.expects = NEXT;
    else progress.expects = toSeq === null ? STATE : STATE_HERE;
    if (progress.seq !== null) progress.history.add(progress.seq, "lost", null);
  }
}
