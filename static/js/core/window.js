// What the page holds of one series: buckets of `width` steps for some rows, fed by a snapshot and then by deltas. Pure.
//
// Cells are stored row by row with spare room at the end, so that appending a column moves nothing. The cell of row r and
// bucket b stands at `index(r, b)` of `low`, `high`, `last`, `flags`; b is absolute, as on the wire.

const SPARE = 256;

export class SeriesWindow {
  /** @param {ReturnType<import("./codec.js").decodeView>} view a snapshot */
  constructor(view) {
    this.width = view.width;
    this.rows = view.rows;
    this.firstBucket = view.firstBucket;
    this.n = view.n;
    this.lastStep = view.lastStep;
    this.lastTime = view.lastTime;
    this.head = 0;
    /** Rises with each change of values; `dirtyFrom` is the first bucket changed since {@link takeDirty}. */
    this.version = 0;
    /** Rises when cells move to new planes. */
    this.layout = 0;
    this.dirtyFrom = view.firstBucket;
    this.#allocate(view.n + SPARE);
    for (let row = 0; row < view.rows; row += 1) this.#copyRow(row, view, 0);
  }

  #allocate(capacity) {
    const cells = this.rows * capacity;
    this.capacity = capacity;
    this.low = new Float32Array(cells).fill(NaN);
    this.high = new Float32Array(cells).fill(NaN);
    this.last = new Float32Array(cells).fill(NaN);
    this.flags = new Uint8Array(cells);
  }

  #copyRow(row, view, at) {
    const target = row * this.capacity + this.head + at;
    const source = row * view.n;
    for (const plane of ["low", "high", "last", "flags"]) {
      this[plane].set(view[plane].subarray(source, source + view.n), target);
    }
  }

  /** Where the cell of `row` and absolute `bucket` stands in the planes. */
  index(row, bucket) {
    return row * this.capacity + this.head + (bucket - this.firstBucket);
  }

  /** First bucket after the newest. */
  get endBucket() {
    return this.firstBucket + this.n;
  }

  /** The bucket that holds `step`, or -1 when the window doesn't. */
  bucketOf(step) {
    const bucket = Math.floor(step / this.width);
    return bucket >= this.firstBucket && bucket < this.endBucket ? bucket : -1;
  }

  /**
   * Takes whole buckets: a bucket that is there already is replaced, one beyond the end is appended, and what lies between
   * stays absent. Returns false, changing nothing, when the delta belongs to another width, other rows or an earlier time.
   */
  apply(delta) {
    if (delta.width !== this.width || delta.rows !== this.rows) return false;
    if (delta.n === 0) return true;
    if (this.n === 0) this.firstBucket = delta.firstBucket;
    if (delta.firstBucket < this.firstBucket) return false;
    const at = delta.firstBucket - this.firstBucket;
    const end = Math.max(this.n, at + delta.n);
    if (this.head + end > this.capacity) this.#makeRoom(end);
    this.n = end;
    for (let row = 0; row < this.rows; row += 1) this.#copyRow(row, delta, at);
    this.lastStep = Math.max(this.lastStep, delta.lastStep);
    this.lastTime = Math.max(this.lastTime, delta.lastTime);
    this.dirtyFrom = Math.min(this.dirtyFrom, delta.firstBucket);
    this.version += 1;
    return true;
  }

  /** Moves the cells to the front of planes with room for `n` buckets and more. */
  #makeRoom(n) {
    const { low, high, last, flags, capacity, head } = this;
    this.layout += 1;
    this.#allocate(Math.ceil(n * 1.5) + SPARE);
    this.head = 0;
    for (let row = 0; row < this.rows; row += 1) {
      const from = row * capacity + head;
      const to = row * this.capacity;
      this.low.set(low.subarray(from, from + this.n), to);
      this.high.set(high.subarray(from, from + this.n), to);
      this.last.set(last.subarray(from, from + this.n), to);
      this.flags.set(flags.subarray(from, from + this.n), to);
    }
  }

  /** Forgets buckets before `bucket`. The room is used again when the window next grows. */
  dropBefore(bucket) {
    const count = Math.min(Math.max(0, bucket - this.firstBucket), this.n);
    this.head += count;
    this.n -= count;
    this.firstBucket += count;
  }

  /** First bucket changed since the last call, `endBucket` when none was. */
  takeDirty() {
    const from = Math.max(this.firstBucket, Math.min(this.dirtyFrom, this.endBucket));
    this.dirtyFrom = Infinity;
    return from;
  }
}
