// What would the latest decisions of a task have cost without it, and how sure is that?
import { look, ofTask } from "./api.js";
import { figures, h } from "./dom.js";
import { count, moment, percent, words } from "./format.js";
import { table } from "./table.js";

/** Signed millionths of a dollar. */
function dollars(micro) {
  const size = Math.abs(micro) / 1e6;
  const told = size === 0 ? "$0" : size >= 1 ? `$${size.toFixed(2)}` : `$${size.toPrecision(2)}`;
  return micro < 0 ? `\u2212${told}` : told;
}

function bounds(amount) {
  return amount.low === amount.high ? "" : `between ${dollars(amount.low)} and ${dollars(amount.high)}`;
}

function estimate(amount) {
  return amount.micro_usd === null ? "not known" : dollars(amount.micro_usd);
}

/** A task's savings; none where they cannot be told. */
export function savings(task, signal) {
  return look(ofTask(task, "savings"), signal);
}

/** The saving against the first comparison, in one line. */
export function brief(found) {
  const first = found?.against?.[0];
  if (!found || found.decisions === 0) return "no decisions yet";
  if (!first) return "nothing to compare with";
  if (!first.enough) return "not enough probes";
  return `${dollars(first.saved.micro_usd)} (${bounds(first.saved)})`;
}

/** The whole account of a task. */
export function account(found) {
  if (found.decisions === 0) return h("p", {}, "No decision is kept yet: there is nothing to compare.");
  return [
    h("p", { class: "lead" }, `${count(found.decisions)} decisions since ${moment(found.since)}; a larger model was asked about ${count(found.asked)} of them. Bounds hold with ${percent(found.confidence, 1)} confidence, whatever the traffic was like.`),
    found.left_out > 0 && h("p", { class: "note" }, `${count(found.left_out)} are left out: their texts were not kept, or bills were not yet written down.`),
    found.against.length === 0 && h("p", { class: "message" }, "Nothing to compare with: the task hands on to no larger model."),
    found.against.map((one) => h("section", {}, h("h3", {}, `All of it to ${one.provider}`), h("p", { class: "note" }, `${one.model}: ${one.why}. ${one.note}.`), figures([
      ["would have cost", estimate(one.cost), bounds(one.cost)],
      one.enough ? ["saved", estimate(one.saved), bounds(one.saved)] : ["saved", "not claimed", bounds(one.saved)],
      one.enough && one.saved_share !== null && ["share of that cost saved", percent(one.saved_share)],
      one.escalated_share_of_cost !== null && ["still paid to larger models", percent(one.escalated_share_of_cost), "share of cost, not of requests"],
    ]))),
    table("What it cost here", [
      { name: "Cost", head: true, cell: (one) => words(one.what) },
      { name: "Number", number: true, cell: (one) => (one.what === "cores" ? `${count(Math.round(one.count))} ms` : count(Math.round(one.count))) },
      { name: "Dollars", number: true, cell: (one) => (one.amount ? estimate(one.amount) : "not counted") },
      { name: "Bounds and source", words: true, cell: (one) => [one.amount && bounds(one.amount), one.note].filter(Boolean).join("; ") },
    ], found.costs),
  ];
}
