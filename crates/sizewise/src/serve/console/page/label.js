// What waits for a person, and what does the person say? By keys alone, one question after the other.
import { agreement } from "./agreement.js";
import { act, look, queueOf } from "./api.js";
import { announcer, fresh, h, put } from "./dom.js";
import { count, moment, percent } from "./format.js";

const KEYS = "1234567890";
/** What became of an answer. */
const BECAME = { gold: "It is gold now.", dropped: "Dropped without an answer.", second: "It waits for a second person.", disputed: "Another person differs: it waits for a third one." };

export async function label({ task: name, signal }) {
  let queue = await look(queueOf(name), signal);
  let later = new Set();
  const said = announcer();
  const place = h("div", {});
  const done = { answered: 0, skipped: 0 };

  const id = (item) => `${item.decision}/${item.question}`;
  const next = () => queue.items.find((item) => !later.has(id(item)));

  async function more() {
    queue = await look(queueOf(name), signal);
    // What was put off comes last, and comes again when nothing else is left.
    if (!next()) later = new Set();
  }

  async function say(item, answer) {
    try {
      const told = await act(queueOf(name), { decision: item.decision, question: item.question, answer, after: item.first !== undefined });
      Object.assign(queue, { waiting: told.waiting, more: told.more });
      if (told.became === "suggested") {
        Object.assign(item, { first: { answer }, suggestion: told.suggestion, confidence: told.confidence });
        said.textContent = `Your choice is kept. The model would say ${told.suggestion}: keep yours or change it.`;
        await show();
        return;
      }
      done[answer === null ? "skipped" : "answered"] += 1;
      said.textContent = `${answer === null ? "You cannot say" : `Saved: ${item.question} is ${answer}`}. ${BECAME[told.became] ?? ""}`;
    } catch (error) {
      // Somebody else was first, or it has been erased.
      said.textContent = error.message;
    }
    queue.items = queue.items.filter((one) => id(one) !== id(item));
    await show();
  }

  async function show() {
    if (!next() && (queue.waiting > 0 || queue.items.length)) await more();
    const item = next();
    const head = h("p", { class: "note" }, `${count(queue.waiting)}${queue.more ? "+" : ""} wait. ${count(done.answered)} answered and ${count(done.skipped)} dropped by you here.`);
    if (!item) {
      put(place, head, h("p", {}, queue.waiting > 0 ? "What waits, waits for somebody else: you have answered it." : "Nothing waits."), h("button", { on: { click: async () => { await more(); await show(); } } }, "Look again"));
      place.querySelector("button").focus();
      return;
    }
    const form = question(item, queue.questions.find((one) => one.name === item.question), {
      save: (answer) => say(item, answer), drop: () => say(item, null), later: () => { later.add(id(item)); said.textContent = "Put off."; return show(); } });
    put(place, head, form);
    form.querySelector("input")?.focus();
  }

  await show();
  return [h("h1", { tabindex: "-1" }, `Label ${name}`),
    h("p", { class: "lead" }, "What no tier was sure of. What you say is gold once it is settled: models learn from it, and promises are checked against it. Some questions are put before two people, who do not see each other's answer."), place, said, agreement(name, signal)];
}

/** What somebody chose. */
function chose({ answer }) {
  return answer ?? "cannot say";
}

/** What is said beside a question, before anything is chosen now. */
function beside(item) {
  if (item.differ?.length) return `Two people differ: ${item.differ.map(chose).join("; ")}. You decide.`;
  if (item.first) return `You chose ${chose(item.first)}. The model would say ${item.suggestion} (${percent(item.confidence)} sure). Keep your choice or change it: both are kept.`;
  return item.suggestion === undefined ? "Answered without the model's guess." : "Its guess is shown once you have chosen.";
}

/** One question with its labels. The model's own guess is shown once you have chosen, if at all: it must not choose for you. */
function question(item, asked, { save, drop, later }) {
  const text = item.input.kept === "nothing" ? null : item.input.text;
  const name = fresh("label");
  const labels = asked?.labels ?? [];
  const guess = h("p", { class: "note", "aria-live": "polite" }, beside(item));
  const radios = labels.map(({ value, description }, index) => {
    const radio = h("input", { type: "radio", name, value, "data-focus": index === 0, checked: item.first?.answer === value, on: { change: () => {
      if (item.first === undefined && item.suggestion !== undefined) guess.textContent = `The model would say ${item.suggestion} (${percent(item.confidence)} sure)${item.suggestion === value ? ": the same." : "."}`;
    } } });
    return h("label", { class: "choice" }, radio, h("span", { class: "what" }, value, description && h("span", {}, description)), KEYS[index] && h("kbd", { "aria-hidden": "true" }, KEYS[index]));
  });
  const chosen = () => form.querySelector(`input[name="${name}"]:checked`)?.value;
  const form = h("form", { on: {
    submit: (event) => {
      event.preventDefault();
      const answer = chosen();
      if (answer === undefined) guess.textContent = "Choose one first, or say that you cannot.";
      else save(answer);
    },
    keydown: (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const index = KEYS.indexOf(event.key);
      if (index >= 0 && radios[index]) {
        const radio = radios[index].querySelector("input");
        radio.click();
        radio.focus();
      } else if (event.key === "x") drop();
      else if (event.key === "s") later();
      else if (event.key === "Enter" && event.target.tagName === "INPUT") form.requestSubmit();
      else return;
      event.preventDefault();
    },
  } },
  h("p", { class: "note" }, `Since ${moment(item.at)} · decision `, h("code", {}, item.decision)),
  text === null ? h("p", { class: "message" }, "The input was not kept, so nobody can answer. Drop it; to keep inputs, set store under [privacy] in the task file.") : h("blockquote", { class: "quote", id: `${name}-text` }, text),
  h("fieldset", { "aria-describedby": text === null ? null : `${name}-text` }, h("legend", {}, item.question, asked?.instructions && h("span", { class: "note" }, ` ${asked.instructions}`)),
    labels.length ? h("div", { class: "choices" }, radios) : h("p", {}, "The task no longer asks this.")),
  guess,
  h("div", { class: "row" }, h("button", { class: "main", type: "submit" }, "Save ", h("kbd", {}, "Enter")), h("button", { type: "button", on: { click: drop } }, item.first?.answer === null ? "Still cannot say " : "Cannot say ", h("kbd", {}, "x")),
    h("button", { type: "button", on: { click: later } }, "Later ", h("kbd", {}, "s"))));
  return form;
}
