// What do programs ask larger models again and again, and what does it cost?
import { look } from "./api.js";
import { h, missing, problem } from "./dom.js";
import { count, duration, moment, money, percent, shortened } from "./format.js";
import { table } from "./table.js";

const AGAIN_MS = 1000;

export async function discover({ signal, again }) {
  const told = await look("sites", signal);
  const head = [h("h1", { tabindex: "-1" }, "Discover"), h("p", { class: "lead" }, "Call sites: places in programs that ask a larger model the same thing again and again, the dearest first.")];
  if (told.state === "looking") {
    setTimeout(() => signal.aborted || again(), AGAIN_MS);
    return [head, h("p", { role: "status", class: "message" }, "What is recorded is being read; the sites come by themselves.")];
  }
  const { sites, left_out, problem: wrong, hint } = told.found;
  if (wrong) return [head, problem({ message: [wrong, hint].filter(Boolean).join("; ") })];
  if (!sites.length && !told.recorded) return [head, missing("Nothing is recorded. Name providers under [relay] in sizewise.toml, let programs call them through this server, and set", "observe = \"redacted\"")];
  return [head, table("Call sites by money", [
    { name: "Site", head: true, cell: (site) => site.name ?? h("code", {}, site.id) },
    { name: "Asks", cell: (site) => site.model },
    { name: "What is answered", cell: (site) => site.questions.map(answered) },
    { name: "Calls", number: true, cell: (site) => count(site.calls) },
    { name: "Cost so far", number: true, cell: (site) => `${site.estimated > 0 ? "~" : ""}${money(site.micro_usd)}` },
    { name: "A month", number: true, cell: (site) => money(site.micro_usd_per_month) },
    { name: "Median", number: true, cell: (site) => duration(site.median_latency_us) },
    { name: "Repeats alike", number: true, cell: (site) => (site.repeats.texts ? `${percent(site.repeats.alike / site.repeats.texts)} of ${count(site.repeats.texts)}` : "–") },
    { name: "Examples", number: true, cell: (site) => (site.is_task ? `${count(site.examples)} (+${count(site.worth_waiting_for)})` : "–") },
    { name: "Since", tight: true, cell: (site) => moment(site.first_at) },
    { name: "Next", cell: (site) => (site.is_task ? h("code", {}, `sizewise init TASK --from-site ${site.name ?? site.id.slice(0, 12)}`) : h("span", { class: "note" }, "no task yet")) },
  ], sites, "No call was recorded yet. Only what is answered well is recorded."),
  left_out > 0 && h("p", { class: "note" }, `${count(left_out)} more are left out.`),
  sites.length > 0 && h("p", { class: "note" }, "A month is thirty days at the rate between a site's first and last call, told from an hour on. ~ where the provider told no tokens. In brackets: how many more examples are worth waiting for.")];
}

/** What is answered, in a few words; the labels by how often they were given. */
function answered({ name, kind, labels }) {
  const kinds = { choice: "choice", predicate: "yes or no", score: "score", constant: "always the same", free: "free" };
  const told = `${name}: ${kinds[kind] ?? kind}${labels && kind !== "predicate" && kind !== "constant" ? ` of ${labels.length}` : ""}`;
  const shown = (labels ?? []).slice(0, 6).map(([label, times]) => `${shortened(label, 24)} ${count(times)}`).join(", ");
  return h("div", {}, told, shown && h("span", { class: "note" }, ` (${shown}${labels.length > 6 ? ", …" : ""})`));
}
