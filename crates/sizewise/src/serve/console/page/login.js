// Who is it? Asked once; the server gives a session for it.
import { act } from "./api.js";
import { announcer, h } from "./dom.js";

/** The page that asks for a key; `entered` is called once it is taken. */
export function login(entered) {
  const said = announcer();
  const key = h("input", { type: "password", name: "key", autocomplete: "current-password", required: true, spellcheck: "false" });
  const form = h("form", { on: { submit: async (event) => {
    event.preventDefault();
    said.textContent = "Looking…";
    try {
      await act("login", { key: key.value });
      key.value = "";
      entered();
    } catch (error) {
      said.textContent = error.message;
      key.focus();
    }
  } } }, h("label", {}, "API key, or a token of your identity provider", key), h("div", {}, h("button", { class: "main" }, "Come in")), said);
  return h("div", { class: "login" }, h("h1", { tabindex: "-1" }, "Sizewise"),
    h("p", { class: "lead" }, "This server needs a key. It stays in this form: the server gives a session for it, which ends after twelve hours, two of silence, or when the key is revoked."),
    form, h("p", { class: "note" }, "Whoever runs the server makes one: ", h("code", {}, "sizewise keys create NAME --role operator"), " (or ", h("code", {}, "reviewer"), ")."));
}
