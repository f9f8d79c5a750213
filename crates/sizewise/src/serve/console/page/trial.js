// How does a release that is tried do beside the one in force, and what may be done about it?
import { act, look, ofTask } from "./api.js";
import { shares } from "./charts.js";
import { figures, h } from "./dom.js";
import { count, duration, moment, percent, range, share, short, shortened } from "./format.js";
import { confirm } from "./releases.js";
import { table } from "./table.js";

const STATES = { kept: ["good", "kept"], in_doubt: ["open", "in doubt"], broken: ["bad", "broken"] };

/** The trial of a task: under way, or the last one. `shown` are the task's releases. */
export async function trial({ task: name, signal, session, again }, shown, said) {
  const tried = await look(ofTask(name, "trial"), signal);
  const runs = session.role === "operator";
  const does = async (body) => {
    try {
      await act(ofTask(name, "trial"), body);
      await again();
    } catch (error) {
      said.textContent = error.message;
    }
  };
  return h("section", {}, h("h2", {}, "Trial"), head(tried, name),
    tried.under_way && runs && acts(tried, does), compared(tried), promises(tried), differences(tried),
    !tried.under_way && runs && form(shown, does));
}

function head({ trial: one, under_way: runs }, name) {
  if (!one) return h("p", { class: "note" }, "No release was ever tried beside the one in force. ", h("code", {}, `sizewise trial begin ${name} RELEASE --shadow`));
  const what = one.mode === "shadow" ? `judges ${percent(one.share)} of the requests once more, behind their callers' backs` : `answers ${percent(one.share)} of the requests, the same subjects always`;
  return runs
    ? h("p", {}, "Release ", h("code", { title: one.release }, short(one.release)), " ", h("span", { class: "state open" }, `on trial as a ${one.mode}`), ` since ${moment(one.begun_at)} (${one.begun_by}): it ${what}.`)
    : h("p", {}, "Release ", h("code", { title: one.release }, short(one.release)), ` was tried as a ${one.mode} from ${moment(one.begun_at)} to ${moment(one.ended_at)}: ${one.ended_because}.`);
}

function acts({ trial: one }, does) {
  const name = short(one.release);
  return h("div", { class: "row controls" },
    h("button", { on: { click: () => confirm(`Promote ${name}?`, "The release on trial is put in force and the trial ends, in one step. It must be certified, and no gate may refuse it. Requests under way finish with the release they began with.", () => does({ act: "promote" }), "Promote") } }, "Promote"),
    one.mode === "shadow" && h("button", { on: { click: () => confirm(`Let ${name} answer a tenth of the requests?`, "It becomes a canary: callers get its answers. Requests of one subject are always answered by the same release. It ends by itself when probes speak against its promise.", () => does({ act: "begin", release: one.release, mode: "canary", share: 0.1 }), "Make it a canary") } }, "Make it a canary"),
    h("button", { on: { click: () => confirm(`End the trial of ${name}?`, "The release in force answers every request. What was counted stays.", () => does({ act: "end" }), "End the trial") } }, "End the trial"));
}

function compared({ comparison: all, beside, trial: one }) {
  if (!one) return null;
  if (!all) return h("p", { class: "note" }, "Nothing was counted yet: servers add what they counted every few seconds.");
  const rows = all.questions.flatMap((q) => [
    { name: `${shortened(q.question, 16)}, in force`, share: q.live_answered },
    { name: `${shortened(q.question, 16)}, on trial`, share: q.trial_answered },
  ]);
  const took = (times) => [duration(times.median_us), `95 of 100 within ${duration(times.p95_us)}`];
  return h("div", {}, figures([
    ["inputs", count(all.inputs), `beside release ${short(beside)}`],
    one.mode === "shadow" && ["not kept up with", count(all.dropped), "dropped, so that nobody waits"],
    ["failed on trial", count(all.failed)],
    ["median, in force", ...took(all.live_took)], ["median, on trial", ...took(all.trial_took)],
  ]),
  shares("Share answered by local tiers; 95 % intervals", rows, [
    { name: "Question and release", head: true, cell: (row) => row.name },
    { name: "Answered, interval, inputs", number: true, cell: (row) => share(row.share) },
  ]),
  one.mode === "shadow" && table("The same inputs by both releases; 95 % intervals", [
    { name: "Question", head: true, cell: (q) => q.question },
    { name: "Both answered: alike", number: true, cell: (q) => share(q.alike) },
    { name: "Only in force", number: true, cell: (q) => count(q.only_live) },
    { name: "Only on trial", number: true, cell: (q) => count(q.only_trial) },
    { name: "Neither", number: true, cell: (q) => count(q.neither) },
  ], all.questions));
}

function promises({ promises: all }) {
  if (!all.length) return null;
  const side = (one) => {
    if (!one) return "no certificate";
    const [kind, word] = STATES[one.state];
    const error = one.served_error;
    return [h("span", { class: `state ${kind}` }, word), error.estimate === null ? ` ${count(one.drawn)} probes, ${count(one.told)} told` : ` ${percent(error.estimate)} (${range(error.low, error.high)}, n ${count(one.told)})`];
  };
  return table("Wrong answers by probes, each release by its own; the intervals hold whenever one looks", [
    { name: "Question", head: true, cell: (one) => one.question },
    { name: "Promise", number: true, cell: (one) => `≤ ${percent(one.promise.max_served_error)}` },
    { name: "In force", cell: (one) => side(one.live) },
    { name: "On trial", cell: (one) => side(one.trial) },
  ], all);
}

function differences({ differences: all }) {
  if (!all.length) return null;
  const said = (value, confidence) => `${value}${confidence === null ? "" : ` (${percent(confidence)})`}`;
  return h("details", {}, h("summary", {}, `Answered otherwise: the latest ${count(all.length)}`), table("Both were sure enough, and said different things", [
    { name: "When", tight: true, head: true, cell: (one) => moment(one.at) },
    { name: "Question", cell: (one) => one.question },
    { name: "In force", cell: (one) => said(one.live_value, one.live_confidence) },
    { name: "On trial", cell: (one) => said(one.trial_value, one.trial_confidence) },
    { name: "Text", words: true, cell: (one) => (one.text === undefined ? h("span", { class: "note" }, "not kept, or not yours to read") : shortened(one.text, 200)) },
  ], all));
}

function form(shown, does) {
  const others = [...shown.releases].reverse().filter((one) => one.release !== shown.in_force);
  if (!shown.in_force || !others.length) return null;
  const release = h("select", {}, others.map((one) => h("option", { value: one.release }, `${short(one.release)}, ${moment(one.made_at)}${one.certified.length ? `, certified for ${one.certified.join(", ")}` : ", no certificate"}`)));
  const mode = h("select", {}, h("option", { value: "shadow" }, "shadow: nobody sees it"), h("option", { value: "canary" }, "canary: it answers a share"));
  const part = h("input", { type: "number", min: "0.1", max: "100", step: "0.1", value: "10", required: true });
  return h("form", { on: { submit: (event) => {
    event.preventDefault();
    const [chosen, how, of] = [release.value, mode.value, Number(part.value) / 100];
    const canary = how === "canary";
    confirm(`Try ${short(chosen)} as a ${how}?`, canary ? `It answers ${percent(of)} of the requests. It must be certified and have the contract of the release in force.` : `It judges ${percent(of)} of the requests once more after they were answered: no caller sees or waits for it.`, () => does({ act: "begin", release: chosen, mode: how, share: of }), "Begin");
  } } }, h("fieldset", {}, h("legend", {}, "Try a release"), h("div", { class: "row" }, h("label", { class: "grow" }, "Release", release), h("label", {}, "How", mode), h("label", {}, "Per cent of the requests", part), h("button", { class: "main" }, "Begin the trial"))));
}
