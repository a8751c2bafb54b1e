// The page of a share link with a password: gives it, then opens the run.

import { createApi, readBoot } from "../io/api.js";
import { mount as mountTheme } from "../ui/theme.js";

const boot = readBoot();
const api = createApi(boot);
const problem = document.querySelector("#problem");
const field = document.querySelector("#password");
mountTheme(document.querySelector("#theme"));

document.querySelector("#password-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await api.post("/unlock", { token: boot.link, password: field.value });
    location.reload();
  } catch (error) {
    problem.hidden = false;
    problem.textContent = error.message;
    field.select();
  }
});
field.focus();
document.body.dataset.ready = "1";
