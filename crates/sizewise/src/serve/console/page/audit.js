// What was done, is the log of it whole, where does data lie, and how is somebody erased?
import { act, look } from "./api.js";
import { announcer, figures, h, put } from "./dom.js";
import { count, moment, shortened, words } from "./format.js";
import { confirm } from "./releases.js";
import { table } from "./table.js";

export async function audit({ signal }) {
  const [first, map] = await Promise.all([act("audit", {}), look("data-map", signal)]);
  return [h("h1", { tabindex: "-1" }, "Audit"),
    h("p", { class: "lead" }, "Acts are written down, decisions are not. Nothing in the log is ever changed but what it says of a person, once that person is erased."),
    verify(), log(first), dataMap(map), erase()];
}

function verify() {
  const said = announcer();
  const head = h("input", { type: "text", name: "head", placeholder: "SIZE:ROOT", spellcheck: "false", autocomplete: "off" });
  return h("section", {}, h("h2", {}, "Is it the log that was written?"), h("form", { on: { submit: async (event) => {
    event.preventDefault();
    said.textContent = "Reading every entry…";
    try {
      const told = await act("audit/verify", { head: head.value });
      const verdict = told.findings.length ? `This is not the log that was written: ${told.findings.slice(0, 5).join("; ")}.`
        : told.anchored ? "Every entry is the one that was written." : "Every entry is whole. Whether all of it was written anew, or its end cut off, says a head of before.";
      put(said, h("span", { class: `state ${told.findings.length ? "bad" : "good"}` }, verdict), ` ${count(told.entries)} entries, ${count(told.erased)} without what they said of a person. Head: `, h("code", {}, told.head));
    } catch (error) {
      said.textContent = error.message;
    }
  } } }, h("div", { class: "row" }, h("label", { class: "grow" }, "A head that was written down elsewhere (may be empty)", head), h("button", { class: "main" }, "Verify")), said));
}

function log(first) {
  const said = announcer();
  const words_ = h("input", { type: "search", name: "words", autocomplete: "off" });
  const place = h("div", {});
  let shown = [];
  function list(told, add) {
    shown = add ? [...shown, ...told.entries] : told.entries;
    put(place, table("Entries, the latest first", [
      { name: "Entry", head: true, number: true, cell: (entry) => entry.sequence },
      { name: "When", tight: true, cell: (entry) => moment(entry.at) },
      { name: "Who", cell: (entry) => entry.actor },
      { name: "Did", cell: (entry) => entry.action },
      { name: "To", tight: true, cell: (entry) => h("code", { title: entry.object }, shortened(entry.object, 16)) },
      { name: "More", words: true, cell: more },
    ], shown, "No entry has these words."),
    told.more && h("button", { on: { click: () => ask(shown[shown.length - 1].sequence, true) } }, "Earlier ones"));
    said.textContent = `${count(shown.length)} of ${count(told.size)} entries.`;
  }
  async function ask(before, add) {
    try {
      list(await act("audit", { before, words: words_.value }), add);
    } catch (error) {
      said.textContent = error.message;
    }
  }
  list(first, false);
  return h("section", {}, h("h2", {}, "The log"),
    h("form", { role: "search", on: { submit: (event) => { event.preventDefault(); ask(null, false); } } }, h("div", { class: "row" }, h("label", { class: "grow" }, "Words in who, what, to what, or more", words_), h("button", {}, "Search"))),
    said, place);
}

function more(entry) {
  const parts = Object.entries({ ...entry.detail, ...entry.personal }).filter(([, value]) => value !== null)
    .map(([name, value]) => `${words(name)}: ${told(value)}`);
  if (entry.commitment && entry.personal === undefined) parts.push("what it said of a person is erased");
  return parts.join(" · ");
}

/** A value in few characters; of a hash its beginning. */
function told(value) {
  if (typeof value !== "string") return shortened(JSON.stringify(value), 80);
  return /^[0-9a-f]{64}$/.test(value) ? value.slice(0, 12) : shortened(value, 80);
}

function dataMap({ folder, rules, tasks, relay_days }) {
  const names = tasks.map((one) => ({ ...one, ...(rules.tasks[one.task] ?? {}) }));
  const providers = Object.entries(rules.providers).map(([provider, residency]) => ({ provider, residency }));
  const kept = { nothing: "nothing", redacted: "text, personal data masked", full: "text as it came" };
  return h("section", {}, h("h2", {}, "Where data lies"),
    figures([["at rest", h("code", {}, folder)], ["zero retention", rules.zero_retention ? "yes: nothing of any input is kept" : "no"], ["relayed calls", words(rules.observe), rules.observe === "off" ? null : `kept ${relay_days} days`]]),
    table("Of each task: what is read, what is kept of it, and where it may go", [
      { name: "Task", head: true, cell: (one) => one.task },
      { name: "Reads", cell: (one) => one.fields.join(", ") },
      { name: "Keeps", cell: (one) => kept[one.store] ?? words(one.store) },
      { name: "For", number: true, cell: (one) => `${one.retention_days} days` },
      { name: "May leave", cell: (one) => words(one.may_leave) },
      { name: "Larger model", cell: (one) => one.remote ?? "–" },
      { name: "Then", cell: (one) => words(one.escalate_to) },
    ], names, "No task yet."),
    table("Providers", [{ name: "Provider", head: true, cell: (one) => one.provider }, { name: "Where its texts are", cell: (one) => one.residency }], providers, "No provider is described: nothing leaves this machine."));
}

function erase() {
  const said = announcer();
  const by = h("select", { name: "by" }, h("option", { value: "subject" }, "a subject, as callers named it"), h("option", { value: "decision" }, "a decision, by its id"), h("option", { value: "text" }, "everything that holds a text"));
  const whose = h("input", { type: "text", name: "whose", required: true, autocomplete: "off", spellcheck: "false" });
  return h("section", {}, h("h2", {}, "Erase"), h("p", {}, "Records, questions of the queue, relayed calls and what the log says of them go, in every byte of the store. Tables that you made and models that were fitted on them stay."),
    h("form", { on: { submit: (event) => {
      event.preventDefault();
      confirm("Erase for good?", "Nothing brings it back. The audit log keeps that it was done, and not whose it was.", async () => {
        said.textContent = "Erasing…";
        try {
          const told = await act("erase", { by: by.value, whose: whose.value });
          whose.value = "";
          said.textContent = `Erased: ${told.records} records, ${told.queued} questions (${told.gold} of them answered), ${told.relayed} relayed calls; ${told.entries_blanked} entries of the log lost what they said. Entry ${told.entry} tells of it: note that number with the request.${told.log_emptied ? "" : " The write-ahead log is still being read; run sizewise retain in a minute."}`;
        } catch (error) {
          said.textContent = error.message;
        }
      }, "Erase");
    } } }, h("div", { class: "row" }, h("label", {}, "What", by), h("label", { class: "grow" }, "Whose", whose), h("button", { class: "grave" }, "Erase …")), said));
}
