// Page state in the address. Pure: strings in, plain objects out, and back.
//
// A page lists its fields in a table, one row each: `{ key, param, kind, initial, choices? }`. Kinds: "int", "text", "flag",
// "choice" (one of `choices`), "list" (the parameter repeated). What stands at its initial value is left out of the address.

/** Longest query string written. Lists are cut from their end to fit, so that a link survives chat and mail. */
export const MAX_QUERY = 1900;

const READERS = {
  int(values) {
    const number = Number(values[0]);
    return values[0].trim() !== "" && Number.isSafeInteger(number) && number >= 0 ? number : undefined;
  },
  text: (values) => values[0],
  flag: (values) => (values[0] === "1" ? true : values[0] === "0" ? false : undefined),
  choice: (values, field) => (field.choices.includes(values[0]) ? values[0] : undefined),
  list: (values) => values.filter((value) => value !== ""),
};

/** Reads the fields from a query string ("?from=100&pin=a"). What is absent or senseless takes its initial value. */
export function readQuery(fields, search) {
  const params = new URLSearchParams(search);
  const state = {};
  for (const field of fields) {
    const values = params.getAll(field.param);
    const value = values.length > 0 ? READERS[field.kind](values, field) : undefined;
    state[field.key] = value === undefined ? field.initial : value;
  }
  return state;
}

function isInitial(field, value) {
  if (value === null || value === undefined) return true;
  if (field.kind !== "list") return value === field.initial;
  return value.length === field.initial.length && value.every((item, index) => item === field.initial[index]);
}

function texts(field, value) {
  if (field.kind === "list") return value.map(String);
  if (field.kind === "flag") return [value ? "1" : "0"];
  return [String(value)];
}

/** The query string for a state, "" or beginning with "?", never longer than {@link MAX_QUERY} characters. */
export function writeQuery(fields, state) {
  const pairs = [];
  for (const field of fields) {
    const value = state[field.key];
    if (isInitial(field, value)) continue;
    for (const text of texts(field, value)) pairs.push({ text: encode(field.param, text), list: field.kind === "list" });
  }
  let length = pairs.reduce((sum, pair) => sum + pair.text.length + 1, 0);
  for (let index = pairs.length - 1; index >= 0 && length > MAX_QUERY; index -= 1) {
    if (!pairs[index].list) continue;
    length -= pairs[index].text.length + 1;
    pairs.splice(index, 1);
  }
  return pairs.length > 0 ? `?${pairs.map((pair) => pair.text).join("&")}` : "";
}

function encode(param, text) {
  // Slashes and commas are legal in a query and common in names such as val/loss: keep addresses readable.
  return `${param}=${encodeURIComponent(text).replace(/%2F/g, "/").replace(/%2C/g, ",").replace(/%3A/g, ":")}`;
}
