// What does the traffic itself say about a promise?
//
// A server that does not watch a task, or knows nothing of watching, says so: that is no evidence yet, and no error.
import { evidenceOf } from "./api.js";
import { h } from "./dom.js";
import { count, percent, range } from "./format.js";

const STATES = { kept: ["good", "kept"], in_doubt: ["open", "in doubt"], broken: ["bad", "broken"], unwatched: ["none", "no evidence yet"] };

/** The live evidence of a task by question; empty where nobody watches. */
export async function evidence(task, signal) {
  try {
    const told = await evidenceOf(task, signal);
    return new Map((told?.questions ?? []).map((one) => [one.question, one]));
  } catch (error) {
    if (error.status === 404) return new Map();
    throw error;
  }
}

/** Whether labels say anything of a question since its state last changed. */
export function watched(live) {
  return Boolean(live && live.state !== "unwatched" && live.served_error && live.served_error.estimate !== null && live.probes?.labelled > 0);
}

/** How a promise stands, as a word with its mark. */
export function state(live) {
  const [kind, word] = STATES[live?.state] ?? STATES.unwatched;
  return h("span", { class: `state ${kind}` }, word);
}

/** The live served error in words, with interval and sample size. */
export function told(live) {
  if (!watched(live)) return !live || live.state === "unwatched" ? "" : live.probes.drawn ? `no label yet since then; ${count(live.probes.waiting)} probes wait` : "by its certificate; no probe yet";
  const error = live.served_error;
  return `${percent(error.estimate)} (${range(error.low, error.high)}, n ${count(live.probes.labelled)})`;
}
