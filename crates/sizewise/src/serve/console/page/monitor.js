// What does a task's traffic say now: of its promise, of its groups, of its latest requests?
import { act, look, ofTask } from "./api.js";
import { band, figure, frame, promiseLine, shares } from "./charts.js";
import { announcer, figures, h, missing, put } from "./dom.js";
import { evidence, state, told, watched } from "./evidence.js";
import { count, duration, moment, percent, range, share, shortened, words } from "./format.js";
import { mixOf } from "./mix.js";
import { confirm } from "./releases.js";
import { table } from "./table.js";

export async function monitor({ task: name, signal, again }) {
  const [live, traffic, kinds] = await Promise.all([evidence(name, signal), look(ofTask(name, "traffic"), signal), look(ofTask(name, "kinds"), signal)]);
  const questions = [...live.values()];
  return [h("h1", { tabindex: "-1" }, `Monitor ${name}`),
    h("div", { class: "row controls" }, h("p", { class: "lead" }, `As of ${moment(Date.now())}.`), h("button", { on: { click: again } }, "Look again")),
    questions.length > 0 && questions.every((one) => !one.probes.drawn) && h("p", { class: "note" }, "No probe was drawn yet: ", h("code", {}, "probe_share"), " under ", h("code", {}, "[live]"), " in the task file sends a share of answered requests to a reference as well."),
    questions.length ? questions.map((live) => promise(name, live)) : h("p", { class: "message" }, "No live evidence yet: nobody watches this task. ", h("code", {}, "probe_share"), " under ", h("code", {}, "[live]"), " in the task file sends a share of answered requests to a reference as well."),
    newKinds(name, kinds, again), shifted(name, signal), latest(traffic)];
}

function newKinds(name, { kinds, watched }, again) {
  const said = announcer();
  const proposed = kinds.filter((kind) => kind.state === "proposed");
  const settled = kinds.filter((kind) => kind.state !== "proposed");
  return h("section", {}, h("h2", {}, "New kinds of input"), said,
    !watched && h("p", { class: "message" }, "Nobody looks: the release in force has nothing that new kinds could be told by. ", h("code", {}, `sizewise train ${name}`), " makes one that has, where there are enough rows."),
    watched && !proposed.length && h("p", { class: "note" }, "None is proposed."),
    proposed.map((kind) => newKind(name, kind, said, again)),
    settled.length > 0 && table("What became of earlier ones", [
      { name: "Kind", head: true, cell: (kind) => String(kind.id) },
      { name: "Since", tight: true, cell: (kind) => moment(kind.at) },
      { name: "What it was", cell: (kind) => kind.label ?? "\u2013" },
      { name: "Became", cell: (kind) => words(kind.state) },
    ], settled));
}

function newKind(name, kind, said, again) {
  const title = kind.label ? `Kind ${kind.id}: it might be called ${kind.label}` : `Kind ${kind.id}`;
  const judge = async (body) => {
    try {
      const told = await act(ofTask(name, "kinds"), body);
      put(said, told.waiting === undefined ? `Kind ${kind.id} is dismissed.` : `${count(told.waiting)} questions about kind ${kind.id} wait ahead of all others.`);
      if (told.waiting === undefined) again();
    } catch (error) {
      put(said, error.message);
    }
  };
  const reason = h("input", { type: "text", "aria-label": `Why kind ${kind.id} is none`, placeholder: "why it is none" });
  return h("div", {}, h("h3", {}, title), figures([
    ["share", percent(kind.share), `of what was looked at; at most ${percent(kind.known_share)} of the training rows`],
    ["since", moment(kind.at), `after ${count(kind.looks)} looks`],
    kind.words.length > 0 && ["its words", kind.words.join(", ")],
  ]),
  h("p", {}, "Its inputs are handed on, not answered here, until a release knows it or somebody dismisses it."),
  kind.examples?.length > 0 && h("ul", {}, kind.examples.map((one) => h("li", {}, shortened(one.text, 200)))),
  h("div", { class: "row controls" },
    h("button", { on: { click: () => judge({ do: "label", kind: kind.id }) } }, "Label these"),
    reason,
    h("button", { on: { click: () => confirm(`Dismiss kind ${kind.id}?`, "Its inputs are answered again as before. The act and the reason stand in the audit log.", () => judge({ do: "dismiss", kind: kind.id, reason: reason.value }), "Dismiss") } }, "Dismiss")));
}

/** Comes by itself: the development rows are read for it. */
function shifted(name, signal) {
  const place = h("div", { role: "status" }, h("p", { class: "note" }, "…"));
  look(ofTask(name, "shift"), signal).then((found) => put(place, found.state === "ready" ? shift(found.shift) : missing(found.problem, found.hint)), (error) => { if (!signal.aborted) put(place, h("p", { class: "note" }, error.message)); });
  return h("section", {}, h("h2", {}, "Shift"), place);
}

function shift({ task, latest, rows, false_alarms, length, languages, calibration }) {
  const differs = (one) => h("span", { class: `state ${one.differs ? "open" : "none"}` }, one.differs ? "differs" : "as before");
  const points = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value * 100).toFixed(1)}`;
  if (!length && !calibration.length) return h("p", { class: "note" }, `${count(latest)} records whose text was kept, ${count(rows)} development rows, no labelled probe: nothing to compare yet.`);
  return h("div", {},
    h("p", { class: "note" }, `${count(latest)} latest records beside the ${count(rows)} development rows of the release in force. Where nothing has changed, at most one look in ${Math.round(1 / false_alarms)} shows a difference. What differs explains; what it does to the promise is said above.`),
    length && figures([
      ["words, median", count(length.median), `${count(length.median_of_rows)} in the rows`],
      [`longer than ${count(length.long)} words`, percent(length.share.value), `${percent(length.share_of_rows.value)} of the rows`],
      ["length", differs(length)],
    ]),
    languages.length > 0 && table(`Languages of the latest inputs of ${task}; 95 % intervals`, [
      { name: "Language", head: true, cell: (one) => one.language },
      { name: "Latest", number: true, cell: (one) => share(one.share) },
      { name: "Rows", number: true, cell: (one) => share(one.share_of_rows) },
      { name: "Verdict", cell: differs },
    ], languages),
    calibration.length > 0 && table("Confidence beside what the reference said of probes", [
      { name: "Question", head: true, cell: (one) => one.question },
      { name: "Probes", number: true, cell: (one) => count(one.probes) },
      { name: "Sure", number: true, cell: (one) => percent(one.confidence) },
      { name: "Right", number: true, cell: (one) => percent(one.right) },
      { name: "Too sure by, points", number: true, cell: (one) => `${points(one.excess)} (${points(one.low)} to ${points(one.high)})` },
      { name: "Verdict", cell: differs },
    ], calibration));
}

function promise(name, live) {
  const head = h("h2", {}, live.question);
  if (live.state === "unwatched") return h("section", {}, head, h("p", {}, state(live), h("span", { class: "note" }, " Without a certificate there is no promise to watch.")));
  return h("section", {}, head, figures([
    ["promise", `≤ ${percent(live.promise.max_served_error)} wrong`],
    ["state", state(live), live.since ? `since ${moment(live.since)}` : null],
    ["served error", watched(live) ? percent(live.served_error.estimate) : "–", told(live)],
    ["threshold", live.threshold.now?.toFixed(4) ?? "nothing is answered", live.threshold.now === live.threshold.certified ? "as certified" : `certified: ${live.threshold.certified?.toFixed(4) ?? "–"}`],
    ["probes", count(live.probes.drawn), `${count(live.probes.labelled)} labelled, ${count(live.probes.waiting)} wait; reference: ${live.reference}`],
  ]), path(live), groups(live), mixOf(name, live), changes(live));
}

function path(live) {
  const points = (live.path ?? []).filter((point) => point.estimate !== null);
  if (!points.length) return null;
  const most = Math.max(...points.map((point) => point.n));
  const later = points.slice(Math.floor(points.length / 4));
  const top = Math.min(1, Math.max(live.promise.max_served_error * 2, ...later.map((point) => point.high), 0.02));
  const plot = frame(`Served error of ${live.question} by labelled probes`, { top, right: most, across: "labelled probes", up: "served error", writeX: (value) => count(Math.round(value)) });
  band(plot, points.map((point) => ({ x: point.n, value: point.estimate, low: point.low, high: Math.min(point.high, top) })));
  promiseLine(plot, live.promise.max_served_error);
  return figure(plot.svg, `Estimate and ${percent(live.served_error.confidence, 0)} confidence sequence: the band holds at every moment at once, since the state last changed. n ${count(live.probes.labelled)}.`, [
    { name: "Labelled", head: true, number: true, cell: (point) => count(point.n) },
    { name: "When", tight: true, cell: (point) => moment(point.at) },
    { name: "Served error", number: true, cell: (point) => percent(point.estimate) },
    { name: "Interval", number: true, cell: (point) => range(point.low, point.high) },
  ], points);
}

function groups(live) {
  if (!live.groups?.length) return null;
  const rows = live.groups.map((one) => ({ name: shortened(one.group, 26), state: one.state, threshold: one.threshold, share: { value: one.estimate, low: one.low, high: one.high, of: one.labelled } }));
  return h("div", {}, h("h3", {}, "Groups"), shares(`Served error of ${live.question} by group`, rows, [
    { name: "Group", head: true, cell: (row) => row.name },
    { name: "State", cell: (row) => state(row) },
    { name: "Threshold", number: true, cell: (row) => row.threshold?.toFixed(4) ?? "–" },
    { name: "Served error, interval, labelled probes", number: true, cell: (row) => share(row.share) },
  ]));
}

function changes(live) {
  if (!live.changes?.length) return null;
  return h("div", {}, h("h3", {}, "Changes"), table("How the promise stood, the latest first", [
    { name: "When", tight: true, head: true, cell: (one) => moment(one.at) },
    { name: "Of", cell: (one) => one.group ?? "all traffic" },
    { name: "From", cell: (one) => words(one.from) },
    { name: "To", cell: (one) => words(one.to) },
    { name: "Threshold", number: true, cell: (one) => one.threshold?.toFixed(4) ?? "–" },
    { name: "Why", words: true, cell: (one) => one.reason },
  ], [...live.changes].reverse()));
}

function latest(traffic) {
  if (!traffic.records) return h("section", {}, h("h2", {}, "Latest requests"), h("p", { class: "note" }, "No record yet."));
  const rows = traffic.questions.map((one) => ({ name: shortened(one.question, 26), share: one.answered }));
  return h("section", {}, h("h2", {}, "Latest requests"), figures([
    ["records looked at", count(traffic.records), traffic.records === traffic.most ? "the latest" : "all there are"],
    ["from", moment(traffic.since)], ["to", moment(traffic.until)],
    ["median", duration(traffic.median_us), "from admission to answer"], ["95 of 100 within", duration(traffic.p95_us)],
  ]),
  shares("Share answered here, by question; 95 % intervals", rows, [
    { name: "Question", head: true, cell: (row) => row.name },
    { name: "Answered", number: true, cell: (row) => share(row.share) },
  ]),
  table("Who answered, and why the rest went on", [
    { name: "Question", head: true, cell: (one) => one.question },
    { name: "Answers by tier", cell: (one) => one.by_tier.map(([tier, n]) => `${tier} ${count(n)}`).join(", ") || "–" },
    { name: "Handed on", cell: (one) => one.reasons.map(([reason, n]) => `${words(reason)} ${count(n)}`).join(", ") || "–" },
  ], traffic.questions),
  table("The latest decisions", [
    { name: "When", tight: true, head: true, cell: (one) => moment(one.at) },
    { name: "Answers", cell: (one) => one.answers.map((answer) => h("div", {}, `${answer.question}: `, answer.answered ? answer.value : h("span", { class: "state open" }, "escalated"), ` (${answer.tier}${answer.confidence === null ? "" : `, ${percent(answer.confidence)}`})`)) },
    { name: "Text", words: true, cell: (one) => (one.text === undefined ? h("span", { class: "note" }, "not kept, or not yours to read") : shortened(one.text, 200)) },
    { name: "Took", number: true, cell: (one) => duration(one.elapsed_us) },
    { name: "Decision", cell: (one) => h("code", {}, one.id) },
  ], traffic.latest));
}
