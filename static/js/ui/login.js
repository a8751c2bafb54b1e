// Opening the dashboard with the single-use code of a printed link: "#code=..." never reaches the server's log, and is
// spent by a POST, so that a link preview can't burn it.
//
//   codeOf("#code=abc") -> "abc" or ""
//   login(api, {code} or {token})   resolves when the session cookie is set, rejects with a sentence

export function codeOf(hash) {
  return new URLSearchParams(hash.replace(/^#/, "")).get("code") ?? "";
}

export async function login(api, proof) {
  await api.post("/session", proof);
}
