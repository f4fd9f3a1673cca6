// Stock clients of Node: `ws` on /v2, `eventsource` on /sse. Prints one JSON line for each event that they get.
//   node node_clients.mjs ws URL CHANNEL COUNT         subscribes, reads COUNT events
//   node node_clients.mjs eventsource URL COUNT CUTS   reads COUNT events; is cut off now and then by its server
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const [kind, url, ...rest] = process.argv.slice(2);
const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

if (kind === "ws") {
  const { WebSocket } = require("ws");
  const [channel, count] = [rest[0], Number(rest[1])];
  const socket = new WebSocket(url);
  let received = 0;
  socket.on("open", () => socket.send(JSON.stringify({ method: "subscribe", params: [channel], id: 1 })));
  socket.on("message", (data) => {
    const frame = JSON.parse(data.toString());
    print(frame);
    if (frame.ch === channel && "seq" in frame && ++received === count) socket.close(1000);
  });
  socket.on("close", (code) => print({ closed: code }));
} else {
  const { EventSource } = await import("eventsource");
  const count = Number(rest[0]);
  const source = new EventSource(url);
  let received = 0;
  source.onmessage = (event) => {
    const envelope = JSON.parse(event.data);
    print({ id: event.lastEventId, ...envelope });
    if (envelope.channel !== "system" && ++received === count) source.close();
  };
}
