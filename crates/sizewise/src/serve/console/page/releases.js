// Which releases does a task have, what is proven of each, and which is in force?
import { act, look, ofTask } from "./api.js";
import { announcer, h } from "./dom.js";
import { count, moment, percent, short, words } from "./format.js";
import { renewals } from "./renewals.js";
import { table } from "./table.js";
import { trial } from "./trial.js";

export async function releases(view) {
  const { task: name, signal, session, again } = view;
  const [shown, learnt] = await Promise.all([look(ofTask(name), signal), look(ofTask(name, "renewals"), signal)]);
  const said = announcer();
  const runs = session.role === "operator";
  const newest = [...shown.releases].reverse();
  const before = shown.history.length > 1 ? shown.history[shown.history.length - 2].release : null;

  function put(one) {
    const proven = one.certified.length ? `It is certified for ${one.certified.join(", ")}.` : "It has no certificate: its questions escalate everything unless the server allows answers without one.";
    confirm(`Put release ${short(one.release)} in force?`, `${proven} Running servers notice within a second; requests under way finish with the release they began with. The act stands in the audit log.`, async () => {
      try {
        await act(ofTask(name, "release"), { release: one.release });
        await again();
      } catch (error) {
        said.textContent = error.message;
      }
    });
  }

  return [h("h1", { tabindex: "-1" }, `Releases of ${name}`),
    h("p", { class: "lead" }, "A release never changes; which one is in force is one row that is switched in one step."), said,
    table("Releases, the latest first", [
      { name: "Release", head: true, cell: (one) => h("code", { title: one.release }, short(one.release)) },
      { name: "Made", tight: true, cell: (one) => moment(one.made_at) },
      { name: "Certified for", cell: (one) => one.certified.join(", ") || "–" },
      { name: "Size", number: true, cell: (one) => `${(one.bytes / 1e6).toFixed(1)} MB` },
      { name: "Standing", cell: (one) => (one.release === shown.in_force ? h("span", { class: "state good" }, "in force")
        : runs && h("button", { on: { click: () => put(one) }, "aria-label": `${one.release === before ? "Roll back to" : "Put in force"} ${short(one.release)}` }, one.release === before ? "Roll back" : "Put in force")) },
    ], newest, `No release yet. Next: sizewise train ${name}`),
    await trial(view, shown, said),
    h("h2", {}, "Certificates of the release in force"),
    shown.certificates.length ? table("One for each question that was put to the test", [
      { name: "Question", head: true, cell: (one) => one.question },
      { name: "Verdict", cell: (one) => verdict(one) },
      { name: "Promise", number: true, cell: (one) => `≤ ${percent(one.promise.max_served_error)}, ${percent(one.promise.confidence, 0)} sure` },
      { name: "Threshold", number: true, cell: (one) => one.threshold?.toFixed(4) ?? "–" },
      { name: "Locked rows: answered, wrong", number: true, cell: (one) => `${count(one.counts.answered)} of ${count(one.counts.rows)}, ${count(one.counts.wrong)} wrong` },
      { name: "At most wrong", number: true, cell: (one) => percent(Math.min(one.counts.served_error_bound, 1)) },
      { name: "Opening", number: true, cell: (one) => `${one.opening} of ${one.openings_planned}` },
    ], shown.certificates) : h("p", { class: "note" }, "None. Next: ", h("code", {}, `sizewise certify ${name}`)),
    shown.certificates.length > 0 && table("Its gates: what else stands between a promise that holds and an answer", [
      { name: "Gate", head: true, cell: (one) => words(one.name) },
      { name: "Question", cell: (one) => one.question },
      { name: "Result", cell: (one) => h("span", { class: `state ${{ pass: "good", refuse: "bad" }[one.result] ?? "open"}` }, one.result === "not_enough" ? "not enough rows" : words(one.result)) },
      { name: "Found", words: true, cell: (one) => [one.found, one.hint && h("span", { class: "note" }, ` ${one.hint}`)] },
    ], shown.certificates.flatMap((one) => (one.gates ?? []).map((gate) => ({ question: one.question, ...gate })))),
    h("h2", {}, "Put in force"),
    table("Switches, the latest first", [
      { name: "When", tight: true, head: true, cell: (one) => moment(one.at) },
      { name: "Release", cell: (one) => h("code", { title: one.release }, short(one.release)) },
      { name: "Why", cell: (one) => one.reason },
    ], [...shown.history].reverse()),
    renewals(name, learnt, signal),
    h("h2", {}, "Openings of locked rows"),
    table("Each look at the locked rows, written down before it happened", [
      { name: "When", tight: true, head: true, cell: (one) => moment(one.at) },
      { name: "Rows", cell: (one) => h("code", { title: one.locked_rows }, short(one.locked_rows)) },
      { name: "Release", cell: (one) => h("code", { title: one.release }, short(one.release)) },
      { name: "Ended", cell: (one) => (one.finished ? "finished" : "never finished") },
    ], shown.openings),
  ];
}

function verdict(one) {
  if (one.verdict.is === "certified" && !one.overridden) {
    const gate = (one.gates ?? []).find((gate) => gate.result === "refuse");
    if (gate) return [h("span", { class: "state bad" }, "refused by a gate"), h("span", { class: "note" }, ` ${gate.found}`)];
  }
  const [kind, word] = { certified: ["good", "certified"], refused: ["bad", "refused"], insufficient_evidence: ["open", "too little evidence"] }[one.verdict.is] ?? ["none", one.verdict.is];
  return [h("span", { class: `state ${kind}` }, word), one.verdict.reason && h("span", { class: "note" }, ` ${one.verdict.reason}`),
    one.verdict.label_more && h("span", { class: "note" }, ` label ${count(one.verdict.label_more)} more`)];
}

/** Asks before something is done that others notice. */
export function confirm(title, text, act, word = "Do it") {
  const dialog = h("dialog", { "aria-labelledby": "confirm-title", on: { close: () => dialog.remove() } },
    h("h2", { id: "confirm-title" }, title), h("p", {}, text),
    h("div", { class: "row" }, h("button", { class: "main", on: { click: async () => { dialog.close(); await act(); } } }, word), h("button", { autofocus: true, on: { click: () => dialog.close() } }, "Leave it")));
  document.body.append(dialog);
  dialog.showModal();
}
