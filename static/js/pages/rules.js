// The rules page.

import { openRuleForm } from "../ui/ruleform.js";
import { mount as mountRules } from "../ui/rulelist.js";
import { ready, startPage } from "./page.js";

const { store, live } = startPage({ name: () => "Rules" });
live.follow(null);
const list = mountRules(document.querySelector("#rules"), store);
document.querySelector("#new").addEventListener("click", () => openRuleForm(store, { onSaved: list.reload }));
store.subscribe((_, changed) => changed.has("rules") && ready());
