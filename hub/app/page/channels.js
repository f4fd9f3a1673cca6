/** Which of the hub's channels one connection follows. */

/** Names and positions of all channels go into one URL, and proxies take 8 KB. */
const URL_ROOM = 7500;

/** The type of a channel, by which it is grouped: `trades@btc_tl` is one of the trades. */
export const typeOf = (channel) => channel.split(/[@.:]/, 1)[0];

/**
 * Those of `listed` to follow, at most `limit`: first `focus`, which somebody looks at, then what is `watched`
 * already, then new ones, taking turns between types, so that there is something of each.
 */
export function chooseChannels(listed, watched, focus, limit) {
  const chosen = new Set();
  let room = URL_ROOM;
  const take = (channel) => {
    const cost = 2 * channel.length + 60;
    if (chosen.size >= limit || chosen.has(channel) || cost > room) return;
    room -= cost;
    chosen.add(channel);
  };
  if (focus !== null && listed.has(focus)) take(focus);
  for (const channel of watched) if (listed.has(channel)) take(channel);
  for (const channel of inTurns(listed.keys())) take(channel);
  for (const channel of watched) take(channel); // not listed just now; a hub that restarts has none at first
  return [...chosen];
}

function* inTurns(channels) {
  const queues = [...groupBy(channels, typeOf).values()];
  for (let turn = 0; queues.some((queue) => turn < queue.length); turn++) {
    for (const queue of queues) if (turn < queue.length) yield queue[turn];
  }
}

export function groupBy(items, keyOf) {
  const groups = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (groups.has(key)) groups.get(key).push(item);
    else groups.set(key, [item]);
  }
  return groups;
}
