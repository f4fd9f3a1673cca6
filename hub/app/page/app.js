/** The page: what the client knows, on the screen. Nothing is drawn per event; every 100 ms what changed is. */

import { Account } from "./account.js";
import { LiveClient, TRANSPORTS } from "./client.js";
import { Credentials } from "./credentials.js";
import { copyText, Detail } from "./detail.js";
import { setAttribute, setText, Sparkline } from "./dom.js";
import { count, milliseconds, rate } from "./format.js";
import { List } from "./list.js";
import { RATE_SAMPLES, Store } from "./store.js";

const FRAME_MS = 100;
/** From this width on there is room for list and detail side by side, so one is opened. */
const WIDE = matchMedia("(min-width: 1100px)");
const NAMES = { websocket: "WebSocket", sse: "SSE", poll: "long-poll" };
const WORDS = {
  connecting: () => "connecting",
  connected: (live) => `connected by ${NAMES[live.using]}`,
  degraded: (live) => `${NAMES[live.transport]} does not get through, using ${NAMES[live.using]}`,
  reconnecting: () => "reconnecting",
  stopped: () => "stopped",
};
/** Channels for the example of how to publish; the first that the hub's namespaces allow. */
const EXAMPLES = ["hello:world", "ticker@btc_tl", "job:hello", "bench:0"];

const $ = (id) => document.getElementById(id);
const credentials = new Credentials(location.origin);
const account = new Account($("account"), credentials);
const live = new LiveClient({ credentials, onDismissed: (reason) => account.dismiss(reason) });
const store = new Store();
const list = new List($("groups"), select);
const detail = new Detail($("detail"), { live, store, onClose: () => select(null) });
const curve = new Sparkline(160, 34, "sparkline");
let listing = null;
let hasChosen = false;
const filled = new Set();

// --- choosing a channel ------------------------------------------------------------------------------------

function select(name) {
  hasChosen = true;
  const before = detail.name;
  if (name === before) return;
  history.replaceState(null, "", name === null ? location.pathname : `#${encodeURIComponent(name)}`);
  open(name);
  if (name === null) list.focus(before);
  else if (!WIDE.matches) $("detail").querySelector("h2").focus();
}

function open(name) {
  if (name === null) detail.close();
  else detail.open(name);
  document.body.classList.toggle("has-detail", name !== null);
}

function openFirst() {
  const asked = decodeURIComponent(location.hash.slice(1));
  const names = [...store.channels.keys()];
  const seq = (name) => listing.channels.get(name)?.seq ?? 0;
  const [first] = [...names].sort(
    (a, b) => b.startsWith("orderbook@") - a.startsWith("orderbook@") || seq(b) - seq(a),
  );
  if (asked && store.channels.has(asked)) open(asked);
  else if (WIDE.matches && first !== undefined) open(first);
  hasChosen = names.length > 0;
}

// --- drawing -----------------------------------------------------------------------------------------------

/** Why a channel is not followed, in words; null where it is. */
function why(name) {
  if (live.watched.has(name)) return null;
  const reason = live.refused.get(name);
  if (reason !== undefined) return `refused: ${reason}`;
  return live.limit === Infinity ? "not subscribed" : `not subscribed: ${live.limit} channels a connection`;
}

function render() {
  const now = performance.now();
  const hubTime = live.clock.toHub(Date.now());
  if (live.listing !== listing) takeListing();
  list.place(store.channels, $("filter").value);
  list.render(now, hubTime, why, detail.name);
  detail.render(now, hubTime);
  if (listing !== null) account.render(listing.user);
  renderHead();
  renderTrouble();
  setText($("shown"), list.size === store.channels.size ? "" : `${list.size} of ${store.channels.size}`);
  $("empty").hidden = listing === null || store.channels.size > 0;
  $("unmatched").hidden = !store.channels.size || list.size > 0;
}

function takeListing() {
  listing = live.listing;
  store.keep(listing.channels, live.watched);
  if (!hasChosen) openFirst();
  if (store.channels.size) fill();
  else offerExample();
}

/** A channel that greets nobody with its state, and is quiet, still has a last value. */
async function fill() {
  for (const [name, { seq, snapshot }] of listing.channels) {
    if (!seq || snapshot !== "none" || filled.has(name) || !live.watched.has(name) || store.open(name).frame !== null) continue;
    filled.add(name);
    const last = (await live.history(name, 2)).at(-1);
    if (last !== undefined) store.fill(last);
  }
}

function renderHead() {
  const { lost, repeated, dropped, gaps, missed, restarts } = live.counts;
  setAttribute($("status"), "data-state", live.state);
  setAttribute($("status"), "data-using", live.using);
  setText($("status").querySelector(".text"), WORDS[live.state](live));
  setText($("proof"), `${count(lost)} · ${count(repeated)}`);
  setAttribute($("proof"), "data-lost", lost);
  setAttribute($("proof"), "data-repeated", repeated);
  setAttribute($("proof").parentElement, "data-bad", lost + repeated > 0);
  const notes = [
    restarts && `${count(restarts)} channels begun anew`,
    missed && `${count(missed)} missed`,
    live.malformed && `${count(live.malformed)} malformed`,
  ];
  setText($("told"), `${count(dropped)} · ${count(gaps)}`);
  setText($("told-note"), notes.filter(Boolean).join(", "));
  setText($("followed"), count(live.watched.size));
  setText($("listed"), live.listing === null ? "" : `of ${count(live.listing.total)}`);
  renderHandover();
}

function renderHandover() {
  const { handover, handoverResult: result } = live;
  const strip = $("handover");
  // What is wrong now is more to the point than what went well before.
  strip.hidden = handover === null || handover.isDismissed || isGone();
  if (handover === null) return;
  const isGood = result.lost + result.repeated === 0;
  setText(strip.querySelector(".route"), `${NAMES[handover.from]} → ${NAMES[handover.to]}`);
  setText(
    strip.querySelector(".at"),
    handover.at === null ? "" : `switched at ${handover.at.channel} seq ${count(handover.at.seq)}`,
  );
  const speed = handover.ms === null ? "" : ` · next event after ${milliseconds(handover.ms)}`;
  const outcome = `${count(result.lost)} lost, ${count(result.repeated)} repeated in ${count(result.events)} events since${speed}`;
  setText(strip.querySelector(".outcome"), result.events ? outcome : "waiting for the next event");
  for (const [name, value] of Object.entries({ ...result, to: handover.to, good: isGood }))
    setAttribute(strip, `data-${name.toLowerCase()}`, value);
}

const isGone = () => live.state === "reconnecting" || live.state === "stopped";

function renderTrouble() {
  $("trouble").hidden = !isGone();
  if (!isGone()) return;
  const what = live.state === "stopped" ? "The hub has sent this page away" : "The hub is not answering";
  setText($("trouble").querySelector(".text"), live.reason ? `Connection lost: ${live.reason}.` : `${what}.`);
  const seconds = Math.max(0, Math.ceil((live.retryAt - Date.now()) / 1000));
  const wait = seconds ? `Reconnecting in ${seconds} s.` : "Reconnecting …";
  setText($("trouble").querySelector(".countdown"), live.state === "stopped" ? "" : wait);
}

/** Once a second. */
function settle() {
  store.settle();
  list.settle();
  const { samples, perSecond } = store.total;
  setText($("rate"), rate(perSecond));
  curve.draw(samples, { low: 0, high: Math.max(1, ...samples), places: RATE_SAMPLES });
  setText($("latency"), milliseconds(isGone() ? null : live.latency.median));
  setText(
    $("round-trip"),
    live.clock.roundTrip === null ? "" : `round trip ${milliseconds(live.clock.roundTrip)}`,
  );
  setText($("proof-note"), `${count(live.counts.events)} events checked`);
  announce();
}

let announced = "connecting";

/** Tells changes of state to those who listen instead of looking; figures are not read out. */
function announce() {
  const words = WORDS[live.state](live);
  if (words === announced) return;
  announced = words;
  setText($("announcement"), words);
}

async function offerExample() {
  const channel = await live.firstAllowed(EXAMPLES);
  const data = { text: "Hello from the hub" };
  setText(
    $("example"),
    `curl -X POST http://${location.hostname}:8081/publish \\\n  -d '${JSON.stringify({ channel: channel ?? "…", data })}'`,
  );
}

// --- input -------------------------------------------------------------------------------------------------

function switchTo(transport) {
  live.switchTo(transport);
  document.querySelector(`#transports [value=${transport}]`).checked = true;
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") return event.target === $("filter") && $("filter").value ? undefined : select(null);
  if (event.target.matches("input[type=search], input[type=password], textarea")) return;
  if (event.key === "/") {
    $("filter").focus();
    event.preventDefault();
  } else if ("123".includes(event.key)) switchTo(TRANSPORTS[event.key - 1]);
}

$("transports").addEventListener("change", ({ target }) => switchTo(target.value));
$("handover")
  .querySelector("button")
  .addEventListener("click", () => {
    live.handover.isDismissed = true;
  });
$("trouble")
  .querySelector("button")
  .addEventListener("click", () => live.retryNow());
$("empty")
  .querySelector(".copy")
  .addEventListener("click", ({ target }) => copyText($("example").textContent, target));
addEventListener("keydown", onKey);
addEventListener("hashchange", () => {
  const name = decodeURIComponent(location.hash.slice(1));
  if (store.channels.has(name)) open(name);
});

$("rate-curve").append(curve.element);
live.listen((frame) => store.take(frame, live.listing?.channels.get(frame.channel)?.snapshot));
live.start();
setInterval(() => requestAnimationFrame(render), FRAME_MS);
setInterval(settle, 1000);

// For the console, and for tests: `live.listen(console.log)`, `store.open("orderbook@btc_tl").value`.
Object.assign(globalThis, { live, store });
