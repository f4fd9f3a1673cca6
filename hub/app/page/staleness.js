/** How old a channel's last event may be: the one place that decides. Old values stay, and say that they are old. */

// Seconds until "warn" and until "stale", by type of channel.
const MARKET = { warn: 5, stale: 15 };
/** Nothing happens until somebody trades: silence says that what is known is still so. */
const QUIET = { warn: Infinity, stale: Infinity };
const POLICIES = {
  ticker: MARKET,
  bbo: MARKET,
  orderbook: MARKET,
  trades: { warn: 10, stale: 30 },
  kline: { warn: 10, stale: 60 },
  job: { warn: 10, stale: 60 },
  orders: QUIET,
  fills: QUIET,
  balances: QUIET,
  copilot: { warn: 15, stale: 60 },
};
const OTHER = { warn: 15, stale: 60 };

/** `{level, text}` of a channel of `type` whose last event is `ageMs` old; level "none" before the first. */
export function staleness(type, ageMs) {
  if (ageMs === null) return { level: "none", text: "–" };
  const { warn, stale } = POLICIES[type] ?? OTHER;
  const seconds = Math.max(0, ageMs / 1000);
  if (seconds < warn) return { level: "ok", text: "ok" };
  if (seconds < stale) return { level: "warn", text: `warn (${span(seconds)})` };
  return { level: "stale", text: `stale (${span(seconds)})` };
}

function span(seconds) {
  const whole = Math.floor(seconds);
  if (whole < 100) return `${whole} s`;
  if (whole < 6000) return `${Math.floor(whole / 60)} min`;
  return `${Math.floor(whole / 3600)} h`;
}
