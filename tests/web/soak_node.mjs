// The soak's client in Node: `ws` or `eventsource`. Commands are JSON lines on stdin, answers on stdout.
//   node soak_node.mjs '{"kind": "ws", "url": "ws://...", "channels": [...], "headers": {...}}'
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

import { EventSource } from "eventsource";

import { Client } from "./soak_client.mjs";

const { WebSocket } = createRequire(import.meta.url)("ws");
const options = JSON.parse(process.argv[2]);
const { headers = {} } = options;

function openWebSocket(url) {
  const socket = new WebSocket(url, { headers, handshakeTimeout: 10_000 });
  socket.on("unexpected-response", (_, { statusCode }) => {
    client.follower.fail(`the handshake was answered with ${statusCode}`);
    socket.terminate();
  });
  return socket;
}

const withHeaders = (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...headers } });
const client = new Client(options, {
  openWebSocket,
  openEventSource: (url) => new EventSource(url, { fetch: withHeaders }),
});
client.run();

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const answer = command.stop ? client.stop() : await client.ask(command);
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
