// Numbers and times for people. Pure. A no-break space joins a number and its unit, so that a line never splits them.

const SPACE = "\u00a0";
const MINUS = "\u2212";

/** A number from JSON: numbers as they are, and "NaN", "Infinity", "-Infinity" as the server writes them; null is NaN. */
export function numberOf(value) {
  return typeof value === "number" ? value : value === null || value === undefined ? NaN : Number(value);
}

function plain(value, digits) {
  const text = value.toPrecision(digits);
  // More digits before the point than were asked for: 113 with two is 110, not 1.1e+2.
  if (text.includes("e")) return String(Number(text));
  if (!text.includes(".")) return text;
  return text.replace(/\.?0+$/, "");
}

/** A value of any size in few characters: 0.812, 12.4, 1.23 k, 1.2e-4, 3.4e9, 0, NaN, Inf. */
export function formatNumber(value, digits = 3) {
  if (Number.isNaN(value)) return "NaN";
  if (value === Infinity) return "Inf";
  if (value === -Infinity) return `${MINUS}Inf`;
  if (value === 0) return "0";
  const sign = value < 0 ? MINUS : "";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 999.5e6) {
    const [mantissa, exponent] = size.toExponential(Math.min(digits - 1, 2)).split("e");
    const short = mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa;
    return `${sign}${short}e${Number(exponent)}`;
  }
  if (Number(size.toPrecision(digits)) >= 1e6) return `${sign}${plain(size / 1e6, digits)}${SPACE}M`;
  if (Number(size.toPrecision(digits)) >= 1e3) return `${sign}${plain(size / 1e3, digits)}${SPACE}k`;
  return sign + plain(size, digits);
}

/** A whole number with thousands separated: 12,047. Steps and counts are never rounded. */
export function formatCount(value) {
  if (!Number.isFinite(value)) return formatNumber(value);
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ",")
    .replace("-", MINUS);
}

/** A step for an axis: 800, 12 k, 1.25 M. */
export function formatTick(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${plain(value / 1e6, 6)}${SPACE}M`;
  if (size >= 1e4) return `${plain(value / 1e3, 6)}${SPACE}k`;
  return formatCount(value);
}

/** How long, from seconds: 0.4 s, 12 s, 5 min, 6 h 12 min, 3 d 4 h. Two units at most. */
export function formatDuration(seconds) {
  if (!Number.isFinite(seconds)) return "unknown";
  const span = Math.max(0, seconds);
  if (span < 9.95) return `${span.toFixed(1)}${SPACE}s`;
  if (span < 59.5) return `${Math.round(span)}${SPACE}s`;
  const minutes = Math.round(span / 60);
  if (minutes < 60) return `${minutes}${SPACE}min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return joinUnits(hours, "h", minutes % 60, "min");
  return joinUnits(Math.floor(hours / 24), "d", hours % 24, "h");
}

function joinUnits(large, largeUnit, small, smallUnit) {
  const head = `${large}${SPACE}${largeUnit}`;
  return small > 0 ? `${head} ${small}${SPACE}${smallUnit}` : head;
}

/** How long ago, for lists: "just now", "12 s ago", "5 min ago". */
export function formatAgo(seconds) {
  return seconds < 1.5 ? "just now" : `${formatDuration(seconds)} ago`;
}

/** Steps per second, or seconds per step when slow: 12.4 steps/s, 3.2 s/step. */
export function formatRate(perSecond) {
  if (!Number.isFinite(perSecond) || perSecond <= 0) return "";
  if (perSecond >= 0.995) return `${formatNumber(perSecond)}${SPACE}steps/s`;
  return `${formatNumber(1 / perSecond, 2)}${SPACE}s/step`;
}

/** Bytes: 812 B, 4.8 kB, 1.2 MB. */
export function formatBytes(bytes) {
  if (bytes < 1000) return `${Math.round(bytes)}${SPACE}B`;
  const [scale, unit] = bytes < 999.5e3 ? [1e3, "kB"] : bytes < 999.5e6 ? [1e6, "MB"] : [1e9, "GB"];
  return `${plain(bytes / scale, 3)}${SPACE}${unit}`;
}

const two = (number) => String(number).padStart(2, "0");

/** Local date and time with its offset, from Unix seconds: 2025-03-01 14:05:09 +02:00. */
export function formatTime(seconds) {
  const date = new Date(seconds * 1000);
  const offset = -date.getTimezoneOffset();
  const zone = `${offset < 0 ? MINUS : "+"}${two(Math.floor(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}`;
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())} ${zone}`;
}

/** The same moment in UTC, for tooltips: 2025-03-01 12:05:09 UTC. */
export function formatUtc(seconds) {
  return `${new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** "1 step", "37 steps": a count with its noun. */
export function plural(count, noun, nouns = `${noun}s`) {
  return `${formatCount(count)}${SPACE}${count === 1 ? noun : nouns}`;
}
