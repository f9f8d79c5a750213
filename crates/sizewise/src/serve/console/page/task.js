// What does one task promise, what was proven, and what does each threshold cost?
import { look, ofTask } from "./api.js";
import { curve } from "./curve.js";
import { figures, h, missing, problem, put } from "./dom.js";
import { evidence, state, told } from "./evidence.js";
import { count, estimate, moment, money, percent, share, short, spread, words } from "./format.js";
import { account, savings } from "./savings.js";
import { table } from "./table.js";

/** How long to wait before asking again for figures that are being made. */
const AGAIN_MS = 1500;

export async function task({ task: name, signal, again }) {
  const [shown, measured, traffic, live, home] = await Promise.all([
    look(ofTask(name), signal), look(ofTask(name, "evaluation"), signal), look(ofTask(name, "traffic"), signal), evidence(name, signal), look("home", signal)]);
  const line = home.tasks.find((one) => one.task === name);
  if (measured.state === "measuring") setTimeout(() => signal.aborted || again(), AGAIN_MS);
  const saved = h("div", { role: "status" }, h("p", { class: "note" }, "…"));
  savings(name, signal).then((found) => put(saved, account(found)), (error) => { if (!signal.aborted) put(saved, problem(error)); });
  const parts = shown.task.question.map((question) => section(question, { shown, measured, traffic, live: live.get(question.name), line }));
  return [
    h("h1", { tabindex: "-1" }, name),
    h("p", { class: "lead" }, `Reads ${shown.task.input.fields.join(", ")}. Release `, h("code", {}, short(shown.in_force)), `, contract `, h("code", {}, short(shown.contract)), "."),
    !shown.file_is_in_force && shown.in_force && missing("The task file has changed since this release was made.", `sizewise train ${name}`),
    measured.state === "missing" && missing(measured.problem, measured.hint),
    measured.state === "measuring" && h("p", { role: "status", class: "message" }, "The release is being measured on the development rows; the curve comes by itself."),
    parts,
    line && h("section", {}, h("h2", {}, "Money"), figures([
      ["larger models today", money(line.money.today_micro_usd)], ["this month", money(line.money.month_micro_usd), `${count(line.money.calls_this_month)} calls`],
      ["waiting for people", `${count(line.waiting)}${line.more_waiting ? "+" : ""}`]])),
    h("section", {}, h("h2", {}, "Saved"), saved),
  ];
}

function section(question, { shown, measured, traffic, live, line }) {
  const proof = shown.certificates.find((one) => one.question === question.name);
  const found = measured.evaluation?.questions.find((one) => one.question === question.name);
  const fate = traffic.questions.find((one) => one.question === question.name);
  const calls = line?.money.calls_this_month;
  const callCost = calls ? line.money.month_micro_usd / calls / 1e6 : null;
  const promise = question.promise ?? shown.task.promise;
  return h("section", {}, h("h2", {}, question.name), question.instructions && h("p", { class: "lead" }, question.instructions),
    figures([
      ["promise", `≤ ${percent(promise.max_served_error)} wrong`, `${percent(promise.confidence, 0)} sure`],
      ["proof", verdict(proof), proof && `opened ${moment(proof.opened_at)}`],
      ["live", state(live), told(live)],
      ["answered lately", fate?.answered ? percent(fate.answered.value) : "–", fate?.answered ? spread(fate.answered) : "no records"],
      found && ["coverage", percent(found.cascade.coverage.value), `development rows: ${spread(found.cascade.coverage)}`],
      found && ["served error", percent(found.cascade.served_error.value), `development rows: ${spread(found.cascade.served_error)}`],
    ]),
    found && curve(found, { proof, live, traffic: fate, callCost }),
    found && tiers(found),
    proof && certificate(proof));
}

function verdict(proof) {
  const kind = { certified: ["good", "certified"], refused: ["bad", "refused"], insufficient_evidence: ["open", "too little evidence"] }[proof?.verdict.is];
  return h("span", { class: `state ${kind?.[0] ?? "none"}` }, kind?.[1] ?? "not put to the test");
}

function tiers(found) {
  return h("details", {}, h("summary", {}, "Tiers and calibration"),
    table("Every in-scope development row answered by one tier alone", [
      { name: "Tier", head: true, cell: (one) => one.tier },
      { name: "Right, 95 % interval, rows", number: true, cell: (one) => share(one.accuracy) },
      { name: "Answers of the cascade", number: true, cell: (one) => count(found.cascade.by_tier.find(([tier]) => tier === one.tier)?.[1] ?? 0) },
    ], found.tiers),
    figures([
      ["macro F1, all answered", estimate(found.macro_f1)], ["calibration error", estimate(found.calibration_error)], ["Brier score", estimate(found.brier)],
      found.out_of_scope_auroc && ["out-of-scope AUROC", estimate(found.out_of_scope_auroc)],
    ]),
    table("Confidence and truth", [
      { name: "Mean confidence", head: true, number: true, cell: (bin) => percent(bin.confidence) },
      { name: "Right, 95 % interval, rows", number: true, cell: (bin) => share(bin.right) },
    ], found.reliability));
}

function certificate(proof) {
  const counts = proof.counts;
  return h("details", {}, h("summary", {}, "The certificate"),
    h("p", {}, `${count(counts.answered)} of ${count(counts.rows)} locked rows were answered, ${count(counts.wrong)} of them wrongly. Chance said before: ${percent(proof.chance_before, 0)}. Opening ${proof.opening} of ${proof.openings_planned} planned.`),
    proof.verdict.reason && h("p", {}, proof.verdict.reason),
    proof.verdict.label_more && h("p", {}, `About ${count(proof.verdict.label_more)} more locked rows would settle it.`),
    table("The tests, in their order", [
      { name: "Threshold", head: true, number: true, cell: (test) => test.threshold.toFixed(4) },
      { name: "Answered", number: true, cell: (test) => count(test.answered) },
      { name: "Wrong", number: true, cell: (test) => count(test.wrong) },
      { name: "P-value", number: true, cell: (test) => test.p_value.toExponential(2) },
      { name: "Level", number: true, cell: (test) => test.level.toFixed(3) },
      { name: "Promise shown", cell: (test) => (test.rejected ? "yes" : "no") },
    ], proof.tests),
    h("dl", { class: "note" }, ["contract", "models", "locked_rows", "development_rows"].map((key) => [h("dt", {}, words(key)), h("dd", {}, h("code", {}, proof[key]))])));
}
