// The login page: spends the code of the address, or explains where to get one.

import { createApi, readBoot } from "../io/api.js";
import { addCopyButtons } from "../ui/copy.js";
import { codeOf, login } from "../ui/login.js";
import { mount as mountTheme } from "../ui/theme.js";

const api = createApi(readBoot());
const explain = document.querySelector("#explain");
const opening = document.querySelector("#opening");
const problem = document.querySelector("#problem");
mountTheme(document.querySelector("#theme"));
addCopyButtons(explain);

async function open(code) {
  opening.hidden = false;
  explain.hidden = true;
  // The code leaves the address at once: it must not stay in the history.
  history.replaceState(null, "", location.pathname + location.search);
  try {
    await login(api, code);
    location.replace(location.href);
  } catch (error) {
    opening.hidden = true;
    explain.hidden = false;
    problem.hidden = false;
    problem.textContent = error.message;
    document.body.dataset.ready = "1";
  }
}

const code = codeOf(location.hash);
if (code) await open(code);
else document.body.dataset.ready = "1";
// A link pasted into this very tab changes only the part behind "#".
addEventListener("hashchange", () => codeOf(location.hash) && open(codeOf(location.hash)));
