// `ws` of Node on /v2: node deflate_client.mjs URL CHANNEL COUNT OPTIONS, where OPTIONS is ws' perMessageDeflate as
// JSON. Prints what was agreed on, then each message, then the close code; says something large before it leaves.
import { createRequire } from "node:module";

const require = createRequire(new URL("../web/package.json", import.meta.url));
const { WebSocket } = require("ws");
const [url, channel, count, options] = process.argv.slice(2);
const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

const socket = new WebSocket(url, { perMessageDeflate: JSON.parse(options) });
let received = 0;
socket.on("upgrade", (response) => print({ agreed: response.headers["sec-websocket-extensions"] ?? null }));
socket.on("open", () => {
  const padding = " ".repeat(2000); // worth compressing
  socket.send(JSON.stringify({ method: "subscribe", params: [channel], id: 1 }) + padding);
});
socket.on("message", (data) => {
  const frame = JSON.parse(data.toString());
  print(frame);
  if (frame.ch === channel && "seq" in frame && ++received === Number(count)) socket.close(1000);
});
socket.on("error", (error) => print({ error: error.message }));
socket.on("close", (code) => print({ closed: code }));
