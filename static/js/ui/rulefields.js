// The fields of the rule form, made from the table of GET /rules/kinds: one row per parameter
//   {key, label, type: number | whole | text | choice | switch | list, default, minimum, maximum, choices, required, help}
//
//   fieldFor(parameter, {value, suggestions, options}) -> {key, element, get, set, error}
//     get() gives the value as the API takes it; a number that can't be read stays text, and the server says what is wrong
//   readNumber, labelOf: pure

import { el, setAttribute, setText } from "./element.js";

/** A number as people type it ("1e-3", "0.5", "1 000"); what isn't one comes back as it was. */
export function readNumber(text) {
  const tidy = text.replace(/[\s_\u00a0]/g, "");
  const number = Number(tidy);
  return tidy !== "" && Number.isFinite(number) ? number : text.trim();
}

const CHOICE_LABELS = {
  last: "each value",
  mean: "the mean of the window",
  min: "the smallest of the window",
  max: "the largest of the window",
  share: "the share of the window's steps",
};

export function labelOf(choice) {
  return CHOICE_LABELS[choice] ?? choice;
}

const MAKERS = { number: numberInput, whole: numberInput, text: textInput, choice: choiceInput, switch: switchInput, list: listInput };

let serial = 0;

export function fieldFor(parameter, { value = parameter.default, suggestions = [], options = null } = {}) {
  const id = `field-${parameter.key}-${(serial += 1)}`;
  const control = MAKERS[parameter.type](parameter, id, { suggestions, options });
  const hint = el("span", { class: "hint", id: `${id}-hint` }, parameter.help);
  const error = el("span", { class: "error", id: `${id}-error`, role: "alert", hidden: true });
  control.input.setAttribute("aria-describedby", `${id}-hint ${id}-error`);
  const label = control.group ? el("span", { class: "label" }, parameter.label) : el("label", { for: id }, parameter.label);
  const element = el("div", { class: "field", "data-field": parameter.key }, label, ...control.nodes, hint, error);
  hint.hidden = !parameter.help;
  control.set(value);
  return {
    key: parameter.key,
    element,
    input: control.input,
    get: control.get,
    set: control.set,
    hint: (text) => {
      setText(hint, text);
      hint.hidden = text === "";
    },
    error(text) {
      setText(error, text);
      error.hidden = text === "";
      setAttribute(control.input, "aria-invalid", text ? "true" : null);
    },
  };
}

function numberInput(parameter, id) {
  const input = el("input", { type: "text", id, inputmode: "decimal", autocomplete: "off", spellcheck: "false" });
  return { input, nodes: [input], get: () => readNumber(input.value), set: (value) => (input.value = String(value)) };
}

function textInput(parameter, id, { suggestions }) {
  const input = el("input", { type: "text", id, maxlength: parameter.maximum, autocomplete: "off", spellcheck: "false" });
  const nodes = [input];
  if (suggestions.length) {
    nodes.push(el("datalist", { id: `${id}-list` }, ...suggestions.map((text) => el("option", { value: text }))));
    input.setAttribute("list", `${id}-list`);
  }
  return { input, nodes, get: () => input.value.trim(), set: (value) => (input.value = value) };
}

function choiceInput(parameter, id, { options }) {
  const rows = options ?? parameter.choices.map((choice) => [choice, labelOf(choice)]);
  const input = el("select", { id }, ...rows.map(([value, label]) => el("option", { value }, label)));
  return { input, nodes: [input], get: () => input.value, set: (value) => (input.value = value) };
}

function switchInput(parameter, id) {
  const input = el("input", { type: "checkbox", id });
  return { input, nodes: [input], get: () => input.checked, set: (value) => (input.checked = value) };
}

function listInput(parameter, id, { options }) {
  const boxes = (options ?? []).map(([value, label]) => ({ value, box: el("input", { type: "checkbox", value }), label }));
  const input = el("div", { id, class: "checks", role: "group", "aria-label": parameter.label });
  for (const { box, label } of boxes) input.append(el("label", {}, box, ` ${label}`));
  return {
    input,
    nodes: [input],
    group: true,
    get: () => boxes.filter(({ box }) => box.checked).map(({ value }) => value),
    set: (values) => boxes.forEach(({ value, box }) => (box.checked = values.includes(value))),
  };
}
