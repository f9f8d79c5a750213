// Has the mix of a question's classes changed since it was certified, which classes grew, and what follows for its threshold?
import { figure } from "./charts.js";
import { draw, figures, h } from "./dom.js";
import { axis, count, percent, range, shortened } from "./format.js";

/** How the mix of one question stands; nothing where nobody can tell. */
export function mixOf(name, live) {
  const { mix } = live;
  if (!mix) return null;
  return h("div", {}, h("h3", {}, "Mix of classes"), mix.distance === null ? tooFew(mix) : mix.changed ? changed(name, live) : usual(mix));
}

function tooFew(mix) {
  return h("p", { class: "note" }, `${count(mix.seen)} requests of this release are too few to tell.`);
}

function usual(mix) {
  return h("p", {}, h("span", { class: "state good" }, "as certified"), ` as far as ${count(mix.seen)} requests tell: ${percent(mix.distance)} of them seem to be of another class than the ${count(mix.gold_rows)} gold rows say, and by chance it would be up to ${percent(mix.usual)}.`);
}

function changed(name, { question, mix, threshold }) {
  const raised = mix.threshold !== null && mix.threshold > threshold.certified;
  return [figures([
    ["mix", h("span", { class: "state open" }, "changed"), `estimated from ${count(mix.seen)} requests, by no label`],
    ["of another class", percent(mix.distance), `of the requests; by chance up to ${percent(mix.usual)}`],
    ["threshold before", threshold.certified.toFixed(4), "as certified"],
    ["threshold now", threshold.now?.toFixed(4) ?? "nothing is answered", mix.threshold === null ? "the gold rows prove none under this mix" : raised ? `${mix.threshold.toFixed(4)} is proved under this mix` : "what was certified holds under this mix, too"],
    mix.expected && ["to be expected there", `${percent(mix.expected.coverage)} answered`, `${percent(mix.expected.served_error)} of it wrong, as ${count(mix.gold_rows)} gold rows say, worth ${count(Math.round(mix.expected.effective_rows))} that count alike`],
  ]),
  mix.threshold === null && h("p", { class: "message bad" }, `Under this mix nothing is proved any more${threshold.now === null ? "" : ", and answers are given on as before"}: label more, then renew.`),
  mix.label_next.length > 0 && h("p", {}, "Labels are worth most of ", h("strong", {}, mix.label_next.join(", ")), ": ", h("a", { href: `#/label/${encodeURIComponent(name)}` }, "label what waits"), ", then ", h("code", {}, `sizewise renew ${name}`), "."),
  mix.grown.length > 0 && shareChart(question, mix)];
}

/** Each class that grew: its share when it was certified, and now with what counts leave open. */
function shareChart(question, mix) {
  const row = 30;
  const height = mix.grown.length * row + 26;
  // Four steps of whole per cents.
  const top = Math.min(1, Math.ceil(Math.max(...mix.grown.map((one) => one.high ?? one.now)) * 26) / 25);
  const at = (value) => 200 + (Math.min(value, top) / top) * 380;
  const title = `Shares of the classes of ${question} that grew`;
  const svg = draw("svg", { class: "chart", viewBox: `0 0 640 ${height}`, role: "img", "aria-label": title });
  for (let step = 0; step <= 4; step += 1) {
    const x = at((top * step) / 4);
    svg.append(draw("line", { class: step ? "grid" : "axis", x1: x, x2: x, y1: 4, y2: height - 22 }),
      draw("text", { x, y: height - 6, "text-anchor": "middle" }, axis((top * step) / 4)));
  }
  mix.grown.forEach((one, index) => {
    const y = 4 + index * row + row / 2;
    svg.append(draw("text", { class: "strong", x: 192, y: y + 4, "text-anchor": "end" }, shortened(one.class, 26)),
      ...(one.low === undefined ? [] : [draw("line", { class: "bar-line", x1: at(one.low), x2: at(one.high), y1: y, y2: y })]),
      draw("line", { class: "proof", x1: at(one.certified), x2: at(one.certified), y1: y - 9, y2: y + 9 }),
      draw("circle", { class: "dot", cx: at(one.now), cy: y, r: 4.5 }));
  });
  return figure(svg, `${title}: the upright stroke is the share among the gold rows, the dot the likeliest share of the latest ${count(mix.seen)} requests, with the 95 % interval that counts leave open.`, [
    { name: "Class", head: true, cell: (one) => one.class },
    { name: "When certified", number: true, cell: (one) => percent(one.certified) },
    { name: "Gold rows", number: true, cell: (one) => count(one.gold_rows) },
    { name: "Now, interval, requests", number: true, cell: (one) => `${percent(one.now)} (${one.low === undefined ? "" : `${range(one.low, one.high)}, `}n ${count(mix.seen)})` },
  ], mix.grown);
}
