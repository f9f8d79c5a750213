// Where is a task wrong: which classes are taken for which, which slices are worse, and which mistakes were sure?
import { look, ofTask } from "./api.js";
import { shares } from "./charts.js";
import { announcer, h, missing, put } from "./dom.js";
import { count, percent, share, shortened } from "./format.js";
import { table } from "./table.js";

const AGAIN_MS = 1500;
/** From how many classes on the matrix gives way to the list of pairs. */
const MATRIX = 16;
/** Mistakes that are listed at once. */
const LISTED = 20;

export async function errors({ task: name, signal, again }) {
  const measured = await look(ofTask(name, "evaluation"), signal);
  const head = h("h1", { tabindex: "-1" }, `Errors of ${name}`);
  if (measured.state === "measuring") {
    setTimeout(() => signal.aborted || again(), AGAIN_MS);
    return [head, h("p", { role: "status", class: "message" }, "The release is being measured on the development rows; the figures come by themselves.")];
  }
  if (measured.state === "missing") return [head, missing(measured.problem, measured.hint)];
  const { evaluation, texts } = measured;
  return [head,
    h("p", { class: "lead" }, `Release `, h("code", {}, evaluation.release.slice(0, 12)), ` on ${evaluation.table}: rows that may be looked at. Locked rows are never shown. Every row is answered here, whether it is served or escalated; intervals are exact, at 95 %.`),
    evaluation.questions.map((question) => section(question, texts))];
}

function section(question, texts) {
  const said = announcer();
  const place = h("div", {});
  function show(what, fits) {
    const found = question.mistakes.filter(fits);
    put(place, mistakes(what, found, texts));
    said.textContent = `${count(found.length)} mistakes: ${what}.`;
  }
  const all = () => show("the surest first", () => true);
  all();
  const pair = ({ truth, answer }) => show(`${truth} taken for ${answer}`, (one) => one.truth === truth && one.answer === answer);
  return h("section", {}, h("h2", {}, question.question),
    question.confusions.length ? confusion(question, pair) : h("p", {}, "No row is answered wrongly."),
    h("h3", {}, "Slices: classes, by their recall"),
    slices(question),
    h("h3", {}, "Mistakes"),
    h("div", { class: "row" }, h("button", { on: { click: all } }, "All of them"),
      h("button", { on: { click: () => show("those that are served", (one) => one.served) } }, "Only those that are served")),
    said, place);
}

/** The matrix where it can be read, else the list of pairs. Each cell leads to its rows. */
function confusion(question, pair) {
  const names = question.classes.map((one) => one.class);
  const list = table("Pairs, the most frequent first", [
    { name: "Truth", head: true, cell: (one) => one.truth },
    { name: "Taken for", cell: (one) => one.answer },
    { name: "Rows", number: true, cell: (one) => count(one.rows) },
    { name: "Look", cell: (one) => h("button", { on: { click: () => pair(one) }, "aria-label": `Show rows: ${one.truth} taken for ${one.answer}` }, "Show") },
  ], question.confusions);
  if (names.length > MATRIX) return list;
  const outside = question.confusions.some((one) => !names.includes(one.truth));
  const rows = outside ? [...names, "(out of scope)"] : names;
  const cell = (truth, answer) => {
    const one = question.confusions.find((pair) => pair.truth === truth && pair.answer === answer);
    if (one) return h("td", {}, h("button", { on: { click: () => pair(one) }, "aria-label": `${one.rows} rows: ${truth} taken for ${answer}` }, count(one.rows)));
    const right = truth === answer ? question.classes.find((row) => row.class === truth)?.recall.count : null;
    return h("td", {}, right === null || right === undefined ? h("span", { class: "note", "aria-label": "none" }, "·") : h("strong", {}, count(right)));
  };
  const title = `Confusion: rows with a truth (down) and what they were answered (across)`;
  return [h("p", { class: "note" }, `${title}. A number leads to its rows.`), h("div", { class: "wide", tabindex: "0", role: "group", "aria-label": title },
    h("table", { class: "matrix" }, h("caption", { class: "hidden" }, title),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "truth"), names.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows.map((truth) => h("tr", {}, h("th", { scope: "row" }, truth), names.map((answer) => cell(truth, answer)))))))];
}

function slices(question) {
  const rows = [...question.classes].filter((one) => one.rows > 0).sort((a, b) => a.recall.value - b.recall.value);
  const drawn = rows.slice(0, 20).map((one) => ({ name: shortened(one.class, 26), share: one.recall }));
  const columns = [
    { name: "Class", head: true, cell: (one) => one.class },
    { name: "Rows", number: true, cell: (one) => count(one.rows) },
    { name: "Recall", number: true, cell: (one) => share(one.recall) },
    { name: "Precision", number: true, cell: (one) => share(one.precision) },
    { name: "F1", number: true, cell: (one) => one.f1.toFixed(3) },
  ];
  return shares(`Recall of each class of ${question.question}, the worst first${rows.length > drawn.length ? ` (${drawn.length} of ${rows.length})` : ""}; 95 % intervals`, drawn, columns, rows);
}

function mistakes(what, found, texts) {
  if (!texts) return h("p", { class: "note" }, "The rows themselves are shown to operators.");
  const shown = found.slice(0, LISTED);
  const left = found.length - shown.length;
  return h("div", {}, table(`Mistakes: ${what}`, [
    { name: "Truth", head: true, cell: (one) => one.truth },
    { name: "Answer", cell: (one) => one.answer },
    { name: "Sure", number: true, cell: (one) => percent(one.confidence) },
    { name: "Tier", cell: (one) => one.tier },
    { name: "Served", cell: (one) => (one.served ? h("span", { class: "state bad" }, "served") : "escalated") },
    { name: "Text", words: true, cell: (one) => shortened(one.text, 600) },
    { name: "Row", number: true, cell: (one) => one.row },
  ], shown, "None of the rows that are kept."), left > 0 && h("p", { class: "note" }, `${count(left)} more; sizewise evaluate --mistakes lists them.`));
}
