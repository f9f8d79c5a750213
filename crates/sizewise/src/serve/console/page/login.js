// Who is it? Asked once; the server gives a session for it.
import { act } from "./api.js";
import { announcer, h } from "./dom.js";

/** Why somebody came back from their identity provider without having got in, and what they can do. */
const NOT_SIGNED_IN = {
  stale: "That sign-in cannot be used: it was begun more than ten minutes ago, in another browser, or was used before. Begin again here.",
  denied: "You were not let in there: the sign-in was refused or given up. Begin again, or come in with a key.",
  issuer: "Your identity provider could not be asked, or sent something that cannot be used. Try again in a minute; whoever runs this server finds the reason in its log.",
  token: "What your identity provider says of you does not fit this server. Whoever runs it finds the reason in its log.",
  rights: "You are known, but nothing here is open to you. Whoever runs this server decides that by group, in sizewise.toml.",
  busy: "Too many people are signing in at this moment. Try again in a few seconds.",
};

/** The page that asks who it is; `ways` says how one may come in and where one is known still, `why` is why somebody is back, and `entered` is called once they are in. */
export function login(ways, why, entered) {
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
  } } }, h("label", {}, "API key, or a token of your identity provider", key), h("div", {}, h("button", { class: ways.sign_in ? null : "main" }, "Come in")), said);
  return h("div", { class: "login" }, h("h1", { tabindex: "-1" }, "Sizewise"),
    NOT_SIGNED_IN[why] && h("div", { class: "message bad", role: "alert" }, h("p", {}, NOT_SIGNED_IN[why])),
    ways.elsewhere && h("div", { class: "message", role: "status" }, h("p", {}, `You have left. ${ways.elsewhere.name} still knows you in this browser. `,
      h("a", { href: ways.elsewhere.go, rel: "noreferrer" }, "Leave there too"))),
    ways.sign_in && signIn(ways.sign_in),
    h("p", { class: "lead" }, `${ways.sign_in ? "Or with a key, which" : "This server needs a key. It"} stays in this form: the server gives a session for it, which ends after twelve hours, two of silence, or when the key is revoked.`),
    form, h("p", { class: "note" }, "Whoever runs the server makes one: ", h("code", {}, "sizewise keys create NAME --role operator"), " (or ", h("code", {}, "reviewer"), ")."));
}

function signIn(name) {
  const said = announcer();
  const button = h("button", { class: "main", "data-first": true, on: { click: async () => {
    said.textContent = `Going to ${name}…`;
    try {
      const { go } = await act("sign-in");
      location.assign(go);
    } catch (error) {
      said.textContent = error.message;
    }
  } } }, `Sign in with ${name}`);
  return h("div", {}, h("p", {}, button), said);
}
