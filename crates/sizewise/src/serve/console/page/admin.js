// Who may call, whom may tasks ask, and what has it cost?
import { act, look } from "./api.js";
import { announcer, h, put } from "./dom.js";
import { budget, count, moment, money } from "./format.js";
import { confirm } from "./releases.js";
import { table } from "./table.js";

const ROLES = {
  caller: "caller: asks tasks and models", reviewer: "reviewer: answers what waits for people",
  monitor: "monitor: reads the metrics", operator: "operator: everything",
};

export async function admin({ signal, session, again }) {
  const told = await look("admin", signal);
  return [h("h1", { tabindex: "-1" }, "Admin"), keys(told, session, again), providers(told), money_(told)];
}

function keys(told, session, again) {
  const said = announcer();
  const made = h("div", {});
  const open = !session.keys_needed;
  const name = h("input", { type: "text", name: "name", required: true, maxlength: "200", autocomplete: "off" });
  const role = h("select", { name: "role" }, Object.entries(ROLES).map(([value, text]) => h("option", { value, selected: value === (open ? "operator" : "caller") }, text)));
  const tasks = h("select", { name: "tasks" }, h("option", { value: "" }, "every task"), told.tasks.map((task) => h("option", { value: task }, `${task} alone`)));
  const perDay = h("input", { type: "number", name: "usd", min: "0", step: "any" });
  const form = h("form", { on: { submit: async (event) => {
    event.preventDefault();
    const rights = { role: role.value };
    if (tasks.value) rights.tasks = [tasks.value];
    if (perDay.value) rights.budget = { usd_per_day: perDay.value };
    try {
      const key = await act("keys", { name: name.value, rights });
      name.value = "";
      put(made, h("div", { class: "message good" }, h("p", {}, "This is the only time it is shown: ", h("code", { id: "new-key" }, key.key)),
        open && h("p", {}, "From now on every caller needs a key, and so do you: come in with this one.")));
      said.textContent = `Key ${key.id} is made.`;
    } catch (error) {
      said.textContent = error.message;
    }
  } } }, h("fieldset", {}, h("legend", {}, "A new key"), h("div", { class: "row" }, h("label", { class: "grow" }, "For whom or what", name), h("label", {}, "Role", role), h("label", {}, "Tasks", tasks),
    h("label", {}, "Dollars a day at most", perDay), h("button", { class: "main" }, "Make it"))), said, made);
  const revoke = (key) => confirm(`Revoke key ${key.id}?`, `${key.name} can call no more, for good. Sessions that it opened end.`, async () => {
    try {
      await act(`keys/${encodeURIComponent(key.id)}/revoke`);
      await again();
    } catch (error) {
      said.textContent = error.message;
    }
  }, "Revoke");
  return h("section", {}, h("h2", {}, "Keys"),
    told.oidc && h("p", {}, "Tokens of ", h("code", {}, told.oidc), " are taken as well."),
    open && h("p", { class: "message" }, "No key exists: whoever reaches this machine's own address may do everything. The first key closes the server for everybody without one."),
    table("Keys and what they may do", [
      { name: "Key", head: true, cell: (key) => h("code", {}, key.id) },
      { name: "For", cell: (key) => key.name },
      { name: "Role", cell: (key) => key.rights.role },
      { name: "Tasks", cell: (key) => key.rights.tasks?.join(", ") || (key.rights.tasks ? "none" : "every one") },
      { name: "Team", cell: (key) => key.rights.team ?? "–" },
      { name: "A minute", number: true, cell: (key) => rates(key.rights) },
      { name: "Budget", number: true, cell: (key) => budget(key.rights.budget) },
      { name: "Made", tight: true, cell: (key) => moment(key.created_at) },
      { name: "Standing", cell: (key) => (key.revoked_at ? h("span", { class: "note" }, `revoked ${moment(key.revoked_at)}`) : key.id === session.key ? h("span", { class: "note" }, "yours") : h("button", { on: { click: () => revoke(key) }, "aria-label": `Revoke key ${key.id}` }, "Revoke")) },
    ], told.keys, "No key yet."), form,
    told.teams.length > 0 && table("Teams, whose keys share limits", [
      { name: "Team", head: true, cell: (team) => team.team },
      { name: "A minute", number: true, cell: rates },
      { name: "Budget", number: true, cell: (team) => budget(team.budget) },
    ], told.teams));
}

function rates(limits) {
  const told = [limits.requests_per_minute && `${count(limits.requests_per_minute)} requests`, limits.tokens_per_minute && `${count(limits.tokens_per_minute)} tokens`].filter(Boolean);
  return told.join(", ") || "no limit";
}

function providers(told) {
  const standing = (one) => {
    if (one.resting) return h("span", { class: "state bad" }, "left alone for now");
    if (one.calls === undefined) return h("span", { class: "state none" }, "nobody names it");
    return one.failures ? h("span", { class: "state open" }, "has failed") : h("span", { class: "state good" }, "well");
  };
  // Dollars for a million tokens, as texts of six decimals.
  const price = (one) => (one.priced ? `$${Number(one.price_in).toFixed(2)} / $${Number(one.price_out).toFixed(2)}` : "–");
  return h("section", {}, h("h2", {}, "Providers"), table("Larger models that may be asked", [
    { name: "Provider", head: true, cell: (one) => one.provider },
    { name: "State", cell: standing },
    { name: "Model", cell: (one) => one.model },
    { name: "Address", cell: (one) => h("code", {}, one.url) },
    { name: "Where texts are", cell: (one) => one.residency ?? "not said" },
    { name: "Calls", number: true, cell: (one) => (one.calls === undefined ? "–" : count(one.calls)) },
    { name: "Failed", number: true, cell: (one) => (one.failures === undefined ? "–" : count(one.failures)) },
    { name: "Price, read / written", number: true, cell: price },
    { name: "Prices as of", cell: (one) => one.priced_on ?? (one.priced ? "not said" : "–") },
    { name: "Budget", number: true, cell: (one) => budget(one.budget) },
    { name: "Last problem", words: true, cell: (one) => one.problem ?? (one.priced || one.residency === "on-premises" ? "" : "no prices: what it costs is not known") },
  ], told.providers, "None is described in sizewise.toml: nothing leaves this machine."));
}

function money_(told) {
  const { spending } = told;
  const columns = (payer) => [
    { name: "Day (UTC)", head: true, cell: (day) => day.day }, { name: payer, cell: (day) => day.payer }, { name: "Provider", cell: (day) => day.provider },
    { name: "Calls", number: true, cell: (day) => count(day.calls) }, { name: "Cost", number: true, cell: (day) => money(day.micro_usd) },
  ];
  return h("section", {}, h("h2", {}, "Spending"), h("p", {}, `${money(spending.micro_usd)} in all.`),
    table("By task and day, the latest first", columns("Task"), spending.days, "No larger model was called."),
    spending.also.length > 0 && h("details", {}, h("summary", {}, "The same money by who asked for it"), table("By key, team and provider", columns("Payer"), spending.also)));
}
