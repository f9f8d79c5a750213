// What does a threshold cost and bring? The curve of the development rows, with a hand on it.
import { band, figure, frame, promiseLine } from "./charts.js";
import { draw, figures, fresh, h, put } from "./dom.js";
import { watched } from "./evidence.js";
import { count, percent, range, share } from "./format.js";

/** A number that somebody sets, remembered for this page. */
function setting(name, text, otherwise, changed) {
  const input = h("input", { type: "number", min: "0", step: "any", value: otherwise, inputmode: "decimal", on: { input: changed } });
  return { node: h("label", {}, text, input), value: () => Math.max(0, Number(input.value) || 0) };
}

/** The curve of one question. `proof` is its certificate, `live` what its traffic says, `traffic` what its latest requests came to. */
export function curve(measured, { proof, live, traffic, callCost }) {
  const points = measured.curve.filter((point) => point.served_error.of > 0);
  if (points.length === 0) return h("p", { class: "note" }, "No row is answered at any threshold.");
  const promise = measured.promise.max_served_error;
  const worst = Math.max(promise * 2, ...points.map((point) => point.served_error.value * 1.15), watched(live) ? live.served_error.high : 0);
  const top = Math.min(1, Math.ceil(worst * 20) / 20);
  const plot = frame(`Served error against coverage of ${measured.question}`, { top, across: "coverage: share of requests that are answered here", up: "served error" });
  band(plot, points.map((point) => ({ x: point.coverage, value: point.served_error.value, low: point.served_error.low, high: point.served_error.high })));
  promiseLine(plot, promise);
  certified(plot, proof);
  fromTraffic(plot, live, traffic);
  const hand = handOn(plot, points, measured.cascade.threshold, { promise, callCost, question: measured.question });
  const caption = `${count(measured.rows)} development rows; band: exact 95 % interval. ${proof ? "The bar with a cap: the locked rows at the certified threshold, up to the bound that was proven. " : ""}${watched(live) ? "The ring: what traffic says now. " : ""}The line with a handle: the threshold under your hand; drag it.`;
  return h("div", {}, h("div", { class: "split" }, h("div", {}, figure(plot.svg, caption, [
    { name: "Threshold", head: true, number: true, cell: (p) => p.threshold.toFixed(4) },
    { name: "Coverage", number: true, cell: (p) => percent(p.coverage) },
    { name: "Served error, 95 % interval, answered rows", number: true, cell: (p) => share(p.served_error) },
  ], points)), hand));
}

function certified(plot, proof) {
  const counts = proof?.counts;
  if (!counts?.answered || proof.verdict.is !== "certified") return;
  const x = plot.x(counts.answered / counts.rows);
  const bound = Math.min(counts.served_error_bound, proof.promise.max_served_error);
  plot.svg.append(
    draw("line", { class: "proof", x1: x, x2: x, y1: plot.y(0), y2: plot.y(bound) }),
    draw("line", { class: "proof", x1: x - 7, x2: x + 7, y1: plot.y(bound), y2: plot.y(bound) }),
    draw("circle", { class: "proof-dot", cx: x, cy: plot.y(counts.wrong / counts.answered), r: 5 },
      draw("title", {}, `locked rows: ${counts.wrong} of ${counts.answered} wrong, at most ${percent(bound)}`)));
}

function fromTraffic(plot, live, traffic) {
  const error = live?.served_error;
  if (!error || error.estimate === null || !traffic?.answered?.of) return;
  const [x, y] = [plot.x(traffic.answered.value), plot.y(error.estimate)];
  plot.svg.append(
    draw("line", { class: "live", x1: x, x2: x, y1: plot.y(error.low), y2: plot.y(error.high) }),
    draw("line", { class: "live", x1: plot.x(traffic.answered.low), x2: plot.x(traffic.answered.high), y1: y, y2: y }),
    draw("circle", { class: "live-dot", cx: x, cy: y, r: 5 }, draw("title", {}, `live: ${percent(error.estimate)} (${range(error.low, error.high)})`)));
}

/** The point that somebody moves, with what it would mean. */
function handOn(plot, points, threshold, { promise, callCost, question }) {
  const nearest = (of, wanted) => points.reduce((best, point, index) => (Math.abs(of(point) - wanted) < Math.abs(of(points[best]) - wanted) ? index : best), 0);
  let at = nearest((point) => point.threshold, threshold);
  const line = draw("line", { class: "hand", y1: plot.up, y2: plot.bottom });
  const dot = draw("circle", { class: "hand-dot", r: 7 });
  plot.svg.append(line, dot);
  const escalation = setting("escalation", "An escalation costs ($)", callCost ? callCost.toPrecision(2) : "0.50", () => move(at));
  const error = setting("error", "A wrong answer costs ($)", "5", () => move(at));
  const id = fresh("hand");
  const slider = h("input", { id, type: "range", min: "0", max: String(points.length - 1), step: "1", on: { input: () => move(points.length - 1 - Number(slider.value)) } });
  const out = h("div", { "aria-live": "polite" });
  function move(index) {
    at = index;
    const point = points[at];
    const [x, y] = [plot.x(point.coverage), plot.y(point.served_error.value)];
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    dot.setAttribute("cx", x);
    dot.setAttribute("cy", y);
    slider.value = String(points.length - 1 - at);
    slider.setAttribute("aria-valuetext", `threshold ${point.threshold.toFixed(3)}, coverage ${percent(point.coverage)}, served error ${percent(point.served_error.value)}`);
    const wrong = 1000 * point.coverage * point.served_error.value;
    const on = 1000 * (1 - point.coverage);
    const keeps = point.served_error.high <= promise ? ["good", "whole interval within the promise"]
      : point.served_error.value <= promise ? ["open", "estimate within the promise"] : ["bad", "above the promise"];
    put(out, 
      h("p", {}, h("span", { class: `state ${keeps[0]}` }, keeps[1])),
      figures([
        ["threshold", point.threshold.toFixed(4)],
        ["coverage", percent(point.coverage), `${count(point.served_error.of)} rows`],
        ["served error", percent(point.served_error.value), range(point.served_error.low, point.served_error.high)],
        ["escalated of 1,000", count(Math.round(on))],
        ["wrong of 1,000", wrong.toFixed(1)],
        ["cost of 1,000", `$${(on * escalation.value() + wrong * error.value()).toFixed(2)}`, "escalations and errors"],
      ]));
  }
  const drag = (event) => {
    if (event.type === "pointermove" && event.buttons === 0) return;
    move(nearest((point) => point.coverage, plot.share(event)));
    event.preventDefault();
  };
  plot.svg.addEventListener("pointerdown", drag);
  plot.svg.addEventListener("pointermove", drag);
  move(at);
  return h("div", { class: "controls" }, h("h3", {}, "What if the threshold were another?"),
    h("label", { for: id }, `Threshold of ${question}, from loose to strict`), slider, out, h("div", { class: "row" }, escalation.node, error.node),
    h("p", { class: "note" }, "Nothing is changed here. Thresholds come from a certificate: a looser promise in the task file, then train and certify."));
}
