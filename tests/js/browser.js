// Stand-ins for what the drawing modules ask of a browser, so that what they paint can be checked pixel by pixel.

/** Token values: each token is its own colour. */
export const COLOURS = new Proxy({}, { get: (_, name) => name });

export function installBrowser() {
  const root = { dataset: { theme: "light" } };
  globalThis.document = { documentElement: root };
  globalThis.matchMedia = () => ({ matches: false, addEventListener() {} });
  globalThis.getComputedStyle = () => ({ getPropertyValue: (name) => name });
}

/** A canvas context that keeps the colour of each pixel; text and paths are noted, not drawn. */
export function fakeContext(width, height) {
  const pixels = Array.from({ length: height }, () => Array(width).fill(""));
  const texts = [];
  const context = {
    fillStyle: "",
    font: "",
    textBaseline: "",
    textAlign: "",
    fillRect(x, y, w, h) {
      for (let row = Math.round(y); row < Math.round(y + h); row += 1) {
        for (let column = Math.round(x); column < Math.round(x + w); column += 1) {
          if (pixels[row]?.[column] !== undefined) pixels[row][column] = context.fillStyle;
        }
      }
    },
    fillText: (text, x, y) => texts.push({ text, x, y, colour: context.fillStyle }),
    beginPath() {},
    moveTo() {},
    lineTo() {},
    fill() {},
  };
  return { context, pixels, texts };
}
