// A client that follows channels through a bad network, over a WebSocket at /v2 or an EventSource at /sse. It
// runs in Node and in a browser alike: `WebSocket` and `EventSource` are given to it.
import { Follower } from "./soak_follower.mjs";

/** How long a question about a seq may wait until the client has got there. */
const PATIENCE_MS = 15_000;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Client {
  /**
   * @param {{kind: "ws"|"eventsource", url: string, channels: string[]}} options
   * @param {{openWebSocket?: (url: string) => WebSocket, openEventSource?: (url: string) => EventSource}} means
   */
  constructor({ kind, url, channels }, means) {
    Object.assign(this, { kind, url, means, names: channels, follower: new Follower(channels), isStopped: false });
    this.leave = () => {};
  }

  /** Follows until it is stopped. */
  async run() {
    if (this.kind === "eventsource") return this.listen();
    while (!this.isStopped) {
      await this.talk();
      this.follower.count("connections");
      await sleep(50 + Math.random() * 250);
    }
  }

  /** One connection to /v2, from its opening to its end. */
  talk() {
    const { follower, names } = this;
    const socket = this.means.openWebSocket(this.url);
    this.leave = () => socket.close(1000);
    const subscribe = () => ({ method: "subscribe", params: names, id: 1, lastSeq: follower.lastSeq() });
    socket.onmessage = ({ data }) => {
      const frame = JSON.parse(data);
      if (frame.event === "connected") socket.send(JSON.stringify(subscribe()));
      else if (frame.event === "disconnecting") follower.count(`told ${frame.code}`);
      else if (frame.id === 1 && frame.code === 0) follower.subscribed(frame.data.positions, frame.data.errors);
      else if ("id" in frame || "code" in frame) follower.fail(`answer: ${data}`);
      else follower.take(frame);
    };
    socket.onerror = () => {}; // a close follows
    return new Promise((resolve) => {
      socket.onclose = ({ code }) => resolve(follower.count(`closed ${code}`));
    });
  }

  /** An EventSource comes back by itself, and says by Last-Event-ID where it was. */
  listen() {
    const { follower } = this;
    const source = this.means.openEventSource(`${this.url}channels=${this.names.join(",")}`);
    this.leave = () => source.close();
    source.onmessage = ({ data }) => {
      const envelope = JSON.parse(data);
      if (envelope.event === "subscribed") {
        follower.count("connections");
        follower.subscribed(envelope.data.positions, envelope.data.errors);
      } else if (envelope.event === "disconnecting") follower.count(`told ${envelope.data.code}`);
      else follower.take(envelope);
    };
    source.onerror = (error) => {
      if (source.readyState === 2 && !this.isStopped) {
        follower.fail(`the event source has given up: ${error.code ?? ""} ${error.message ?? ""}`);
      }
    };
  }

  /** The state of a channel at `seq`, once the client is there; null where it is not known. */
  async ask({ channel, seq }) {
    const progress = this.follower.channels.get(channel);
    for (const end = Date.now() + PATIENCE_MS; Date.now() < end && !(progress.seq >= seq); ) await sleep(20);
    return { seq: progress.seq, epoch: progress.epoch, state: progress.history.at(seq) };
  }

  /** Ends, and says what it has seen. */
  stop() {
    this.isStopped = true;
    this.leave();
    return { counts: this.follower.counts, failures: this.follower.failures };
  }
}
