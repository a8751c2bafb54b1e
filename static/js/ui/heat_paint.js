// Colours of heat codes, and the way from codes to canvas pixels.

import { ABSENT, CODES, INF, LEVELS, LIMIT, NAN, ZERO } from "../core/heat.js";
import { token } from "./theme.js";

const DIVERGING = ["--div-", 7];
const RAMP = ["--ramp-", 6];
const STOPS = { deviation: DIVERGING, norm: RAMP, ratio: DIVERGING, zeros: RAMP, gain: DIVERGING };

function rgb(colour) {
  const hex = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(colour);
  return hex ? hex.slice(1).map((part) => parseInt(part, 16)) : [128, 128, 128];
}

/** Packs a colour as ImageData holds it on the little-endian machines that browsers run on. */
const packed = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r;

/** Deviations of less than one unit are noise: they keep the middle colour, and the rest of the ramp begins there. */
function calm(colouring, share) {
  if (colouring !== "deviation") return share;
  const z = (2 * share - 1) * LIMIT;
  const away = Math.max(0, Math.abs(z) - 1) / (LIMIT - 1);
  return 0.5 + 0.5 * Math.sign(z) * away;
}

/** The palette of a colouring in the present theme: one packed colour for each code. */
export function paletteOf(colouring) {
  const palette = new Int32Array(CODES);
  const [prefix, count] = STOPS[colouring];
  const stops = Array.from({ length: count }, (_, i) => rgb(token(`${prefix}${i}`)));
  for (let level = 1; level <= LEVELS; level += 1) {
    const at = calm(colouring, (level - 1) / (LEVELS - 1)) * (count - 1);
    const below = Math.min(count - 2, Math.floor(at));
    palette[level] = packed(stops[below].map((part, i) => Math.round(part + (at - below) * (stops[below + 1][i] - part))));
  }
  palette[ZERO] = packed(rgb(token("--zero")));
  palette[INF] = packed(rgb(token("--inf")));
  palette[NAN] = packed(rgb(token("--nan")));
  return palette;
}

/** The image of a pooled `codes` (height x width) under a palette; absent cells stay see-through. */
export function imageOf(codes, width, height, palette) {
  const image = new ImageData(width, height);
  const pixels = new Int32Array(image.data.buffer);
  for (let i = 0; i < codes.length; i += 1) if (codes[i] !== ABSENT) pixels[i] = palette[codes[i]];
  return image;
}

/** The colour of a code as CSS, for legends and strips. */
export function cssOf(palette, code) {
  const value = palette[code];
  return `rgb(${value & 255} ${(value >> 8) & 255} ${(value >> 16) & 255})`;
}
