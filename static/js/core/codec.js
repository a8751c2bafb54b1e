// GWV1, the binary form of a series: what the live socket and GET .../series send. Little-endian, version 1.
//
//    0 4s "GWV1"   4 u16 version   6 u8 kind (1 snapshot, 2 delta)   7 u8 0
//    8 u32 subscription id   12 u32 segment (0xFFFFFFFF: joined)   16 f64 first bucket   24 u32 width in steps
//   28 u32 buckets n   32 u32 rows   36 u32 planes (1: last; 3: low, high, last)   40 f64 last step (-1: none)
//   48 f64 last time   56 f32 planes, each rows x n row-major   then u8 flags rows x n, padded to 8 bytes

export const SNAPSHOT = 1;
export const DELTA = 2;

/** Bits of a cell's flags. A cell without PRESENT has no value at all. */
export const PRESENT = 1;
export const HAS_NAN = 2;
export const HAS_INF = 4;
export const HAS_ZERO = 8;

const HEADER = 56;
const MAGIC = 0x31565747; // "GWV1" read as a little-endian u32
const JOINED = 0xffffffff;

export class CodecError extends Error {}

/**
 * Decodes one message. The arrays are views into `buffer`.
 *
 * `low` and `high` are the extremes over the finite values of a bucket (NaN where there are none), `last` is the newest
 * value as it is. With one plane (`width` 1) the three are the same array: ask `flags` before reading an extreme.
 *
 * @param {ArrayBuffer} buffer
 * @returns {{kind: number, id: number, segment: number|null, firstBucket: number, width: number, n: number, rows: number,
 *   lastStep: number, lastTime: number, low: Float32Array, high: Float32Array, last: Float32Array, flags: Uint8Array}}
 * @throws {CodecError} when the message is cut short or isn't GWV1
 */
export function decodeView(buffer) {
  if (buffer.byteLength < HEADER) throw new CodecError("A series message is shorter than its header.");
  const view = new DataView(buffer);
  if (view.getUint32(0, true) !== MAGIC) throw new CodecError("A series message doesn't begin with GWV1.");
  const version = view.getUint16(4, true);
  if (version !== 1) throw new CodecError(`The server sends series version ${version}; reload the page to update it.`);
  const kind = view.getUint8(6);
  const n = view.getUint32(28, true);
  const rows = view.getUint32(32, true);
  const planes = view.getUint32(36, true);
  if ((kind !== SNAPSHOT && kind !== DELTA) || (planes !== 1 && planes !== 3)) {
    throw new CodecError("A series message has an unknown kind.");
  }
  const cells = rows * n;
  const flagsAt = HEADER + planes * cells * 4;
  if (buffer.byteLength < flagsAt + cells) throw new CodecError("A series message was cut short.");
  const plane = (index) => new Float32Array(buffer, HEADER + index * cells * 4, cells);
  const last = plane(planes - 1);
  const segment = view.getUint32(12, true);
  return {
    kind,
    id: view.getUint32(8, true),
    segment: segment === JOINED ? null : segment,
    firstBucket: view.getFloat64(16, true),
    width: view.getUint32(24, true),
    n,
    rows,
    lastStep: view.getFloat64(40, true),
    lastTime: view.getFloat64(48, true),
    low: planes === 3 ? plane(0) : last,
    high: planes === 3 ? plane(1) : last,
    last,
    flags: new Uint8Array(buffer, flagsAt, cells),
  };
}
