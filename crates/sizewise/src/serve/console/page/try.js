// How does one input become an answer: which tier said what, why did it go on, and which rows are like it?
import { act, look, ofTask } from "./api.js";
import { announcer, h, put } from "./dom.js";
import { duration, percent, shortened, words } from "./format.js";
import { table } from "./table.js";

/** Classes that are drawn. */
const DRAWN = 8;

export async function tryIt({ task: name, signal }) {
  const shown = await look(ofTask(name), signal);
  const fields = shown.task.input.fields;
  const areas = fields.map((field) => h("textarea", { name: field, required: true, spellcheck: "true", on: { keydown: sendByKey } }));
  const said = announcer();
  const outcome = h("div", {});
  function sendByKey(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  }
  const form = h("form", { on: { submit: async (event) => {
    event.preventDefault();
    said.textContent = "Deciding…";
    const input = fields.length === 1 ? areas[0].value : Object.fromEntries(fields.map((field, index) => [field, areas[index].value]));
    try {
      const told = await act(ofTask(name, "try"), { input });
      put(outcome, view(told));
      said.textContent = `Decided in ${duration(told.decision.elapsed_us)}.`;
      outcome.querySelector("h2")?.focus();
    } catch (error) {
      put(outcome);
      said.textContent = error.message;
    }
  } } }, fields.map((field, index) => h("label", {}, field, areas[index])),
  h("div", { class: "row" }, h("button", { class: "main" }, "Decide"), h("span", { class: "note" }, h("kbd", {}, "Ctrl"), " ", h("kbd", {}, "Enter"), " in the field. Nothing is kept: no record, no queue. Larger models may be asked, and cost what they cost.")), said);
  return [h("h1", { tabindex: "-1" }, `Try ${name}`), form, outcome];
}

function view({ decision, nearest, problem }) {
  return [
    ...decision.answers.map((answer, index) => section(answer, index)),
    h("h2", {}, "Training rows most like it"),
    problem ? h("p", { class: "note" }, `They cannot be shown: ${problem}`) : table("Cosine between the encoder's vectors of the row and the input", [
      { name: "Cosine", number: true, head: true, cell: (row) => row.cosine.toFixed(3) },
      { name: "Labels", cell: (row) => row.labels.map((label) => label ?? "–").join(", ") },
      { name: "Text", words: true, cell: (row) => shortened(row.text, 400) },
      { name: "Row", number: true, cell: (row) => row.row },
    ], nearest, "None: the task has no encoder tier, or you may not read its rows."),
  ];
}

function section(answer, index) {
  const answered = answer.disposition.is === "answered";
  const verdict = answered
    ? [h("span", { class: "state good" }, "answered"), " ", h("strong", {}, answer.suggestion)]
    : [h("span", { class: "state open" }, "escalated"), " it would have said ", h("strong", {}, answer.suggestion)];
  return h("section", {}, h("h2", { tabindex: index === 0 ? "-1" : null }, answer.question), h("p", {}, verdict), h("p", {}, why(answer)),
    h("ol", { class: "steps" }, answer.path.map((step) => h("li", {}, h("span", {},
      h("strong", {}, step.tier), ` would say ${step.value}, ${step.confidence === null ? "and nobody has calibrated how sure it is" : `${percent(step.confidence)} sure`}; novelty ${percent(step.novelty)}; `,
      answer.threshold !== null && step.confidence !== null && (step.confidence >= answer.threshold ? "enough. " : "not enough. "), h("span", { class: "note" }, duration(step.elapsed_us)))))),
    answer.probabilities.length > 1 && probabilities(answer));
}

function why(answer) {
  const limit = answer.threshold === null ? "No threshold is certified" : `From ${percent(answer.threshold)} on an answer is given${answer.certified ? ", by certificate" : ""}`;
  if (answer.remote?.problem) return `${limit}. The larger model of ${answer.remote.provider} gave no answer: ${words(answer.remote.problem)}.`;
  if (answer.handed_on) return `${limit}. Handed on (${words(answer.handed_on)}) and answered by ${answer.remote?.model ?? answer.tier}; that answer stands under no certificate.`;
  if (answer.disposition.is === "answered") return `${limit}. The ${answer.tier} tier was ${percent(answer.confidence)} sure.`;
  const reasons = {
    below_threshold: "No tier was sure enough.",
    out_of_scope: "The input looks like nothing in the training rows.",
    not_certified: "The question has no certificate, and the settings allow no answer without one.",
  };
  const to = answer.disposition.to === "person" ? "A request of a program would wait for a person." : "Nobody gets it: the task abstains.";
  return `${limit}. ${reasons[answer.disposition.reason] ?? words(answer.disposition.reason)} ${to}`;
}

function probabilities(answer) {
  const sorted = [...answer.probabilities].sort((a, b) => b.probability - a.probability).slice(0, DRAWN);
  const rows = sorted.map(({ value, probability }) => ({ name: shortened(value, 26), value, share: { value: probability, low: probability, high: probability, of: 1 } }));
  return h("details", {}, h("summary", {}, "What the last tier thinks of each class"),
    table("Probabilities of the last tier, before calibration", [
      { name: "Class", head: true, cell: (row) => row.value },
      { name: "Probability", number: true, cell: (row) => percent(row.share.value) },
    ], rows));
}
