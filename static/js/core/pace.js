// When to ask for what goes on moving: not with each movement, but always for where it came to rest; and again while no answer comes.
//
//   const pace = createPace(ask);
//   pace.want(key, quiet, apart);   // ask(key) after `quiet` ms, and `apart` ms after the question before; a later wish replaces it
//   pace.again();                   // there was no answer: the same is asked after a while, each time a longer one, until `stop` or another wish
//   pace.stop();

const FIRST_RETRY = 500;
const LONGEST_RETRY = 15_000;

/** @param {(key: unknown) => void} ask  @param {{now?: () => number, after?: typeof setTimeout, cancel?: typeof clearTimeout}} [seams] for tests */
export function createPace(ask, { now = () => performance.now(), after = (...args) => setTimeout(...args), cancel = (timer) => clearTimeout(timer) } = {}) {
  let wanted = null;
  let timer = null;
  let asked = -Infinity;
  let retry = FIRST_RETRY;

  function due() {
    timer = null;
    asked = now();
    ask(wanted);
  }

  return {
    want(key, quiet, apart = 0) {
      if (key === wanted) return;
      wanted = key;
      retry = FIRST_RETRY;
      cancel(timer);
      timer = after(due, Math.max(quiet, asked + apart - now()));
    },
    again() {
      if (timer !== null) return;
      timer = after(due, retry);
      retry = Math.min(2 * retry, LONGEST_RETRY);
    },
    stop() {
      cancel(timer);
      wanted = null;
    },
  };
}
