// How does every task stand: promise against live evidence, coverage, money, what waits, what is wrong?
import { look } from "./api.js";
import { interval } from "./charts.js";
import { h, put } from "./dom.js";
import { evidence, state, told, watched } from "./evidence.js";
import { budget, count, money, percent } from "./format.js";
import { brief, savings } from "./savings.js";
import { table } from "./table.js";

/** Tasks whose evidence is asked for without being opened. */
const ASKED = 60;

export async function home({ signal }) {
  const { tasks, providers } = await look("home", signal);
  const lines = tasks.flatMap((task) => (task.questions.length ? task.questions : [null]).map((question, index) => ({ task, question, first: index === 0 })));
  const cells = new Map();
  const saved = new Map();
  const live = (line) => {
    const cell = h("span", { class: "note" }, line.question ? "…" : "–");
    if (line.question) cells.set(`${line.task.task}/${line.question.question}`, { cell, promise: line.question.max_served_error });
    return cell;
  };
  const view = [
    h("h1", { tabindex: "-1" }, "Home"),
    h("p", { class: "lead" }, "What each task promises, and what its own traffic says of it. Intervals of live evidence hold at every moment, as often as one looks."),
    alarms(tasks, providers),
    table("Tasks and their questions", [
      { name: "Task", head: true, cell: ({ task, first }) => (first ? h("a", { href: `#/task/${encodeURIComponent(task.task)}` }, task.task) : h("span", { class: "hidden" }, task.task)) },
      { name: "Question", cell: ({ question }) => question?.question ?? "–" },
      { name: "Proof", cell: ({ task, question }) => proof(task, question) },
      { name: "Promise", number: true, cell: ({ question }) => (question ? `≤ ${percent(question.max_served_error)} wrong` : "–") },
      { name: "Live served error", cell: live },
      { name: "Coverage at the test", number: true, cell: ({ question }) => percent(question?.coverage) },
      { name: "Waiting", number: true, cell: ({ task, first }) => (first ? waiting(task) : "") },
      { name: "Larger models this month", number: true, cell: ({ task, first }) => (first ? cost(task) : "") },
      { name: "Saved lately", cell: ({ task, first }) => { if (!first) return ""; const cell = h("span", { class: "note" }, "…"); saved.set(task.task, cell); return cell; } },
    ], lines, "No task yet. Make one: sizewise init NAME --from FILE"),
  ];
  fill(tasks.slice(0, ASKED), { cells, saved }, signal);
  return view;
}

function proof(task, question) {
  if (!question || !task.release) return h("span", { class: "state none" }, "not trained");
  return question.certified ? h("span", { class: "state good" }, "certified") : h("span", { class: "state open" }, "not certified");
}

function waiting(task) {
  const told = `${count(task.waiting)}${task.more_waiting ? "+" : ""}`;
  return task.waiting ? h("a", { href: `#/label/${encodeURIComponent(task.task)}`, "aria-label": `${told} questions of ${task.task} wait for a person` }, told) : "0";
}

function cost(task) {
  const limits = budget(task.budget);
  return [money(task.money.month_micro_usd), h("span", { class: "note" }, limits === "none" ? "" : ` of ${limits}`)];
}

function alarms(tasks, providers) {
  const all = tasks.flatMap((task) => task.alarms.map((alarm) => ({ ...alarm, task: task.task })));
  const resting = providers.filter((one) => one.resting || one.problem);
  if (all.length + resting.length === 0) return h("p", {}, h("span", { class: "state good" }, "no alarms"));
  return h("section", { "aria-label": "Alarms" }, h("h2", {}, "Alarms"), h("ul", { class: "alarms" },
    all.map((alarm) => h("li", {}, h("span", { class: `state ${alarm.weight}` }, alarm.task), ` ${alarm.what}. `, h("span", { class: "note" }, "Next: ", h("code", {}, alarm.way_out)))),
    resting.map((one) => h("li", {}, h("span", { class: "state open" }, `provider ${one.provider}`), ` ${one.resting ? "left alone for now" : "last failure"}: ${one.problem ?? "unknown"}`))));
}

async function fill(tasks, { cells, saved }, signal) {
  for (const { task } of tasks) {
    let found;
    try {
      found = await evidence(task, signal);
    } catch {
      found = new Map();
    }
    if (signal.aborted) return;
    for (const [name, { cell, promise }] of cells) {
      const [of, question] = [name.slice(0, name.lastIndexOf("/")), name.slice(name.lastIndexOf("/") + 1)];
      if (of !== task) continue;
      const live = found.get(question);
      cell.className = "";
      put(cell, [state(live), " ", watched(live) && [interval(live.served_error, promise), " "], h("span", { class: watched(live) ? null : "note" }, told(live))]);
    }
    let line = "not known";
    try {
      line = brief(await savings(task, signal));
    } catch {
      // The page shows what is there.
    }
    if (signal.aborted) return;
    const cell = saved.get(task);
    if (cell) put(cell, line);
  }
}
