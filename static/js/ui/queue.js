// A queue that runs at most `width` jobs at a time. Pure: it only knows promises.
//
//   const queue = createQueue(4);
//   await queue.run(async () => fetch(...));

export function createQueue(width) {
  const waiting = [];
  let busy = 0;
  const next = () => {
    while (busy < width && waiting.length) {
      const { job, resolve, reject } = waiting.shift();
      busy += 1;
      Promise.resolve()
        .then(job)
        .then(resolve, reject)
        .finally(() => {
          busy -= 1;
          next();
        });
    }
  };
  return {
    run: (job) =>
      new Promise((resolve, reject) => {
        waiting.push({ job, resolve, reject });
        next();
      }),
  };
}
