// When to ask for what goes on moving: not with each movement, but always for where it came to rest.
//
//   const pace = createPace(ask);
//   pace.want(key, quiet, apart);   // ask(key) after `quiet` ms, and `apart` ms after the question before; a later wish replaces it
//   pace.stop();

/** @param {(key: unknown) => void} ask  @param {{now?: () => number, after?: typeof setTimeout, cancel?: typeof clearTimeout}} [seams] for tests */
export function createPace(ask, { now = () => performance.now(), after = (...args) => setTimeout(...args), cancel = (timer) => clearTimeout(timer) } = {}) {
  let wanted = null;
  let timer = null;
  let asked = -Infinity;

  function due() {
    asked = now();
    ask(wanted);
  }

  return {
    want(key, quiet, apart = 0) {
      if (key === wanted) return;
      wanted = key;
      cancel(timer);
      timer = after(due, Math.max(quiet, asked + apart - now()));
    },
    stop: () => cancel(timer),
  };
}
