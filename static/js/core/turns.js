// Of several questions about one thing only the newest one's answer counts, in whatever order the answers come. Pure.
//
//   const turns = createTurns();
//   const counts = turns();                         // when asking
//   const answer = await api.get("/rules");
//   if (counts()) store.set({ rules: answer.rules });

/** @returns {() => () => boolean} begins a turn; what it returns says whether no other turn has begun since */
export function createTurns() {
  let newest = 0;
  return () => {
    const mine = ++newest;
    return () => mine === newest;
  };
}
