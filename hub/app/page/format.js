/** Numbers, times and payloads as people read them. Decimals stay the strings they are: no rounding. */

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const count = (number) => (number < 1e7 ? whole.format(number) : short.format(number));

export function rate(perSecond) {
  if (perSecond === 0) return "0";
  return perSecond < 10 ? perSecond.toFixed(1) : count(Math.round(perSecond));
}

/** A decimal string with its thousands apart: "4199990.50" is "4,199,990.50". */
export function decimal(value) {
  const text = String(value ?? "–");
  const match = /^([+-]?)(\d{4,})(\.\d+)?$/.exec(text);
  return match === null ? text : match[1] + match[2].replace(/\B(?=(\d{3})+$)/g, ",") + (match[3] ?? "");
}

/** Without the zeros that say nothing: "0.50000000" is "0.5". */
export const trimmed = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);

/** Of a decimal no more than fits in a list: cut, not rounded. */
export const brief = (value) => trimmed(decimal(value).replace(/^([^.]*,[^.]*\.\d\d|[^.]*\.\d{4})\d+$/, "$1"));

export const signed = (text) => (/^[-–0]/.test(text) ? text : `+${text}`);

/** `change` of `open` in percent, with its sign; "" where that is no number. */
export function percent(change, open) {
  const ratio = (Number(change) / Number(open)) * 100;
  if (!Number.isFinite(ratio)) return "";
  const text = ratio.toFixed(Math.abs(ratio) < 0.1 ? 3 : 2);
  return Number(text) === 0 ? "0.000 %" : `${ratio < 0 ? "" : "+"}${text} %`;
}

export const decimals = (text) => String(text).split(".")[1]?.length ?? 0;

export const timeOfDay = (ms) => `${clock.format(ms)}.${String(Math.floor(ms) % 1000).padStart(3, "0")}`;
export const minuteOfDay = (ms) => clock.format(ms).slice(0, 5);

export function milliseconds(ms) {
  if (ms === null) return "–";
  if (ms < 1) return "<1 ms";
  return ms < 10_000 ? `${count(Math.round(ms))} ms` : `${(ms / 1000).toFixed(0)} s`;
}

/** JSON on one line, cut to `length`. */
export function compact(data, length = 240) {
  const text = JSON.stringify(data) ?? "";
  return text.length > length ? `${text.slice(0, length)}…` : text;
}
