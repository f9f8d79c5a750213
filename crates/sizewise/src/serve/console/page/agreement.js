// How often do two people say the same, and what do the model's suggestions do to them?
import { look } from "./api.js";
import { figures, h, problem, put } from "./dom.js";
import { count, estimate, share } from "./format.js";
import { table } from "./table.js";

/** Folded away, and asked for when it is opened. */
export function agreement(task, signal) {
  const place = h("div", {}, h("p", { class: "note" }, "…"));
  let asked = false;
  const folded = h("details", { on: { toggle: async () => {
    if (asked || !folded.open) return;
    asked = true;
    try {
      put(place, whole(await look(`agreement/${encodeURIComponent(task)}`, signal)));
    } catch (error) {
      if (!signal.aborted) put(place, problem(error));
    }
  } } }, h("summary", {}, "Agreement of people"), place);
  return folded;
}

function whole(found) {
  const pull = found.suggestions;
  const rows = found.questions.flatMap((one) => [{ ...one, people: null }, ...one.pairs.map((pair) => ({ question: one.question, ...pair }))]);
  return [
    h("p", {}, `${count(found.waits_for_second)} wait for a second person, ${count(found.waits_for_third)} for a third one who decides.`),
    table("First choices of two people, before any suggestion; intervals of 95 %", [
      { name: "Question", head: true, cell: (one) => one.question },
      { name: "People", cell: (one) => (one.people ? one.people.join(", ") : "all") },
      { name: "Alike, interval, questions", number: true, cell: (one) => share(one.alike) },
      { name: "Cohen's kappa", number: true, cell: (one) => (one.kappa ? estimate(one.kappa) : "not defined") },
    ], rows, "No question has two answers yet: double_share under [people] in the task file puts a share before two people."),
    pull.shown > 0 && figures([
      ["suggestions shown", count(pull.shown), "after the first choice"],
      ["changed to it", pull.changed_to_it ? share(pull.changed_to_it) : "none yet", "where the first choice was another"],
      ["it was right", pull.it_was_right ? share(pull.it_was_right) : "not known yet", "of those that another person answered as well"],
      ["the first choice was right", pull.first_was_right ? share(pull.first_was_right) : "not known yet", "of the same"],
    ]),
  ];
}
