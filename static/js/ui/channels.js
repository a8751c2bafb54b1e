// Where messages about alerts go: the list of channels and the form for one, made from the kinds of GET /channels.
//
//   mountChannels(element, store) -> {destroy, reload}   owners only

import { formatAgo } from "../core/format.js";
import { createTurns } from "../core/turns.js";
import { button, confirmDialog, openDialog, openMenu } from "./dialog.js";
import { el, icon } from "./element.js";
import { fieldFor } from "./rulefields.js";
import { toast, toastError } from "./toast.js";

const LEAST = [["info", "every alert"], ["warning", "warnings and critical alerts"], ["critical", "critical alerts only"]];

export function mountChannels(element, store) {
  const { api } = store.get();
  const list = el("ul", { class: "share-list", "aria-label": "Notification channels" });
  const context = { api, kinds: [], reload: load };
  element.append(list, el("p", {}, button("Add a channel", () => openChannel(context))));
  const turns = createTurns();
  async function load() {
    const counts = turns();
    try {
      const { channels, kinds } = await api.get("/channels");
      if (!counts()) return;
      context.kinds = kinds;
      const rows = channels.map((channel) => row(channel, context));
      if (!rows.length) rows.push(el("li", { class: "muted" }, "No channel yet. Alerts show on these pages only."));
      list.replaceChildren(...rows);
    } catch (error) {
      toastError(error);
    }
  }
  load();
  return { reload: load, destroy: () => element.replaceChildren() };
}

/** "Webhook · example.com · warnings and critical alerts · last message 5 min ago". */
export function channelText(channel, kinds, now) {
  const label = kinds.find(({ kind }) => kind === channel.kind)?.label ?? channel.kind;
  const least = LEAST.find(([key]) => key === channel.least)?.[1] ?? channel.least;
  const sent = channel.last_sent ? `last message ${formatAgo(now - channel.last_sent)}` : "no message yet";
  return [channel.enabled ? "" : "off", channel.name === label ? "" : label, channel.address, least, sent].filter(Boolean).join(" · ");
}

function row(channel, context) {
  const { api, reload, kinds } = context;
  const path = `/channels/${encodeURIComponent(channel.id)}`;
  const attempt = async (work) => {
    try {
      await work();
    } catch (error) {
      toastError(error);
    }
    reload();
  };
  const test = () =>
    attempt(async () => {
      const { delivered, error } = await api.post(`${path}/test`);
      toast(delivered ? "The test message was delivered." : `The test message wasn't delivered: ${error}`, delivered ? {} : { tone: "critical", ms: Infinity });
    });
  const remove = async () => {
    if (await confirmDialog("Delete this channel?", `Messages that wait to be sent to ${channel.name} are dropped.`, "Delete")) attempt(() => api.delete(path));
  };
  const menu = el("button", { class: "icon-button", type: "button", "aria-label": `What to do with ${channel.name}`, "aria-haspopup": "menu" }, icon("M4 10h.1M10 10h.1M16 10h.1"));
  menu.addEventListener("click", () => openMenu(menu, [{ label: "Edit", run: () => openChannel(context, channel) }, { label: "Delete", danger: true, run: remove }]));
  return el(
    "li",
    { class: "share", "data-state": channel.enabled ? "usable" : "gone" },
    el(
      "div",
      { class: "share-text" },
      el("span", { class: "ellipsis" }, channel.name),
      el("span", { class: "muted" }, channelText(channel, kinds, Date.now() / 1000)),
      channel.last_error ? el("span", { class: "channel-error" }, channel.last_error) : null,
    ),
    el("span", { class: "push" }, button("Send a test", test, "plain")),
    menu,
  );
}

function openChannel({ api, kinds, reload }, channel = null) {
  const parameter = (key, label, type, value, help = "") => ({ key, label, type, default: value, choices: [], help });
  const kind = fieldFor(parameter("kind", "Service", "choice", channel?.kind ?? kinds[0].kind), { options: kinds.map((row) => [row.kind, row.label]) });
  const fields = [
    kind,
    fieldFor(parameter("name", "Name", "text", channel?.name ?? "", "How lists call it. Left empty, it is the service's name.")),
    fieldFor(parameter("address", "Address", "text", "")),
    fieldFor(parameter("secret", "Secret (optional)", "text", "", "Signs each message, so that the receiver can tell it is ours.")),
    fieldFor(parameter("least", "Send", "choice", channel?.least ?? "info"), { options: LEAST }),
    fieldFor(parameter("enabled", "On", "switch", channel?.enabled ?? true)),
  ];
  const by = Object.fromEntries(fields.map((field) => [field.key, field]));
  const show = () => {
    const row = kinds.find((one) => one.kind === kind.get());
    by.address.hint(channel ? `${row.help} Left empty, the address stays as it is.` : row.help);
    by.address.input.placeholder = row.example;
    by.secret.element.hidden = !row.signs;
  };
  openDialog(channel ? "Edit channel" : "New channel", (body, foot, close) => {
    const save = async (event) => {
      event.preventDefault();
      const values = Object.fromEntries(fields.map((field) => [field.key, field.get()]));
      if (values.secret === "") delete values.secret;
      try {
        if (channel) await api.put(`/channels/${encodeURIComponent(channel.id)}`, values);
        else await api.post("/channels", values);
        close();
        reload();
      } catch (error) {
        for (const field of fields) field.error(error.fields?.[field.key] ?? "");
        if (!Object.keys(error.fields ?? {}).length) toastError(error);
      }
    };
    const form = el("form", { id: "channel-form", class: "stack", novalidate: true, onsubmit: save }, ...fields.map(({ element }) => element));
    form.addEventListener("input", show);
    body.append(form);
    foot.append(button("Cancel", close), el("button", { class: "button primary", type: "submit", form: "channel-form" }, channel ? "Save" : "Add"));
    show();
  });
}
