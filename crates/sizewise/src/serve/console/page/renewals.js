// When did a task learn again, why, how far is it, and what came of it?
import { look, ofTask } from "./api.js";
import { announcer, h, put } from "./dom.js";
import { moment, short, words } from "./format.js";
import { table } from "./table.js";

/** How long to wait before asking how far a renewal is that runs, or that may go on. */
const AGAIN_MS = { running: 4000, interrupted: 15_000 };
const MARKS = { certified: "good", running: "none", refused: "bad", failed: "bad", too_little: "open", interrupted: "open" };

/** The section of a task's renewals; while one runs, or may go on, it keeps itself up to date. */
export function renewals(name, learnt, signal) {
  const said = announcer();
  const box = h("div", {});
  let last = "";
  const show = (now) => {
    const told = JSON.stringify(now.renewals);
    // What is the same stays, with the focus that may be in it.
    if (told !== last) {
      const held = box.contains(document.activeElement);
      put(box, ...whole(now));
      if (held) box.querySelector("[tabindex]")?.focus({ preventScroll: true });
      if (last) put(said, latest(now));
      last = told;
    }
    const again = AGAIN_MS[now.renewals[0]?.state];
    if (again) setTimeout(follow, again);
  };
  const follow = async () => {
    if (signal.aborted) return;
    try {
      show(await look(ofTask(name, "renewals"), signal));
    } catch (error) {
      if (!signal.aborted) put(said, `How far it is cannot be told: ${error.message}`);
    }
  };
  show(learnt);
  return h("section", {}, h("h2", {}, "Learning again"), box, said);
}

function whole(learnt) {
  const runs = learnt.renewals.find((one) => one.state === "running");
  return [
    h("p", {}, `By itself: ${learnt.by_itself}. What comes of it ${learnt.promote === "certified" ? "is put in force once it is certified." : "waits to be put in force, however it is certified."}`),
    runs && h("p", {}, `Step ${learnt.steps.indexOf(runs.step) + 1} of ${learnt.steps.length}: ${runs.step}. `, h("progress", { value: learnt.steps.indexOf(runs.step), max: learnt.steps.length, "aria-label": "Steps of the renewal that are done" })),
    table("Renewals, the latest first", [
      { name: "Began", tight: true, head: true, cell: (one) => moment(one.begun_at) },
      { name: "Why", cell: (one) => one.why },
      { name: "State", cell: (one) => [h("span", { class: `state ${MARKS[one.state] ?? "none"}` }, words(one.state)), one.state === "certified" || one.state === "too_little" ? null : h("div", { class: "note" }, `${one.state === "running" ? "now" : "last"}: ${one.step}`)] },
      { name: "Ended", tight: true, cell: (one) => (one.ended_at ? h("span", {}, moment(one.ended_at), h("div", { class: "note" }, `after ${lasted(one)}`)) : "–") },
      { name: "Release", cell: (one) => (one.release ? h("code", { title: one.release }, short(one.release)) : "–") },
      { name: "What came of it", words: true, cell: (one) => one.told ?? (one.state === "interrupted" ? "It goes on where it was, by itself or when it is asked for." : "") },
    ], learnt.renewals, "The task has not learnt again yet."),
  ];
}

function latest({ renewals: [one], steps }) {
  if (one.state === "interrupted") return "The renewal was interrupted, and goes on where it was.";
  return one.state === "running" ? `The renewal is at step ${steps.indexOf(one.step) + 1} of ${steps.length}: ${one.step}.` : `The renewal has ended: ${words(one.state)}.`;
}

function lasted({ begun_at: begun, ended_at: ended }) {
  const seconds = Math.max(0, Math.round((ended - begun) / 1000));
  if (seconds < 90) return `${seconds} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
