// The login page: spends the code of the address, or explains where to get one.

import { createApi, readBoot } from "../io/api.js";
import { addCopyButtons } from "../ui/copy.js";
import { codeOf, login } from "../ui/login.js";
import { mount as mountTheme } from "../ui/theme.js";

const boot = readBoot();
const api = createApi(boot);
const explain = document.querySelector("#explain");
const opening = document.querySelector("#opening");
const problem = document.querySelector("#problem");
const tokenForm = document.querySelector("#token-form");
mountTheme(document.querySelector("#theme"));
addCopyButtons(explain);
// A server that others can reach was given a token; one on this computer alone made its own, which nobody types.
tokenForm.hidden = boot.public.local;

async function open(proof) {
  opening.hidden = false;
  explain.hidden = true;
  // The code leaves the address at once: it must not stay in the history.
  history.replaceState(null, "", location.pathname + location.search);
  try {
    await login(api, proof);
    location.replace(location.href);
  } catch (error) {
    opening.hidden = true;
    explain.hidden = false;
    problem.hidden = false;
    problem.textContent = error.message;
    document.body.dataset.ready = "1";
  }
}

tokenForm.addEventListener("submit", (event) => {
  event.preventDefault();
  open({ token: document.querySelector("#token").value.trim() });
});
// A link pasted into this very tab changes only the part behind "#".
addEventListener("hashchange", () => codeOf(location.hash) && open({ code: codeOf(location.hash) }));
const code = codeOf(location.hash);
if (code) await open({ code });
else document.body.dataset.ready = "1";
