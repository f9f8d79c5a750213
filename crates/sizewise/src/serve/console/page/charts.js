// How do intervals, curves and shares look? Every chart has its sample sizes and a table behind it.
import { draw, h } from "./dom.js";
import { axis, percent } from "./format.js";
import { behind } from "./table.js";

const WIDTH = 640;
const HEIGHT = 330;
const LEFT = 64;
const RIGHT = 18;
const TOP = 14;
const BOTTOM = 44;

/** A plot whose x goes from 0 to `right` and y from 0 to `top`. */
export function frame(title, { top, right = 1, across, up, writeX = axis, writeY = axis }) {
  const x = (value) => LEFT + (value / right) * (WIDTH - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - Math.min(1, value / top) * (HEIGHT - TOP - BOTTOM);
  const svg = draw("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
  for (let step = 0; step <= 5; step += 1) {
    const at = step / 5;
    svg.append(
      draw("line", { class: step === 0 ? "axis" : "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(at * top), y2: y(at * top) }),
      draw("text", { x: LEFT - 7, y: y(at * top) + 4, "text-anchor": "end" }, writeY(at * top)),
      draw("text", { x: x(at * right), y: HEIGHT - BOTTOM + 17, "text-anchor": "middle" }, writeX(at * right)),
    );
  }
  svg.append(
    draw("text", { x: x(right / 2), y: HEIGHT - 6, "text-anchor": "middle" }, across),
    draw("text", { transform: `translate(13 ${y(top / 2)}) rotate(-90)`, "text-anchor": "middle" }, up),
  );
  const share = (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * WIDTH;
    return Math.max(0, Math.min(right, ((at - LEFT) / (WIDTH - LEFT - RIGHT)) * right));
  };
  return { svg, x, y, share, left: LEFT, right: WIDTH - RIGHT, bottom: HEIGHT - BOTTOM, up: TOP };
}

/** A band between two ends along points, and the line in it. */
export function band(plot, points) {
  const along = (of) => points.map((point) => `${plot.x(point.x).toFixed(1)},${plot.y(of(point)).toFixed(1)}`);
  plot.svg.append(
    draw("polygon", { class: "band", points: [...along((p) => p.high), ...along((p) => p.low).reverse()].join(" ") }),
    draw("polyline", { class: "curve", points: along((p) => p.value).join(" ") }),
  );
}

/** The line of the promise. */
export function promiseLine(plot, most) {
  const at = plot.y(most);
  plot.svg.append(
    draw("line", { class: "promise-line", x1: plot.left, x2: plot.right, y1: at, y2: at }),
    draw("text", { class: "promise", x: plot.left + 8, y: at - 6 }, `promise: at most ${percent(most)}`),
  );
}

/** A chart with what it says and the table behind it. */
export function figure(svg, caption, columns, rows) {
  return h("figure", {}, svg, h("figcaption", {}, caption), behind(caption, columns, rows));
}

/** An interval on a short line with the promise marked; its numbers stand beside it. */
export function interval(live, promise) {
  const top = Math.max(promise * 2, live.high * 1.05, 0.01);
  const x = (value) => 2 + (Math.min(value, top) / top) * 136;
  return draw("svg", { class: "mini", viewBox: "0 0 140 18", "aria-hidden": "true" },
    draw("line", { class: "axis", x1: 2, x2: 138, y1: 9, y2: 9 }),
    draw("line", { class: "bar-line", x1: x(live.low), x2: x(live.high), y1: 9, y2: 9 }),
    draw("line", { class: "promise-line", x1: x(promise), x2: x(promise), y1: 1, y2: 17 }),
    draw("circle", { class: "dot", cx: x(live.estimate), cy: 9, r: 4 }));
}

/** Shares, one under the other, each with its interval. `rows`: { name, share: { value, low, high, of } }; `whole` is what the table has. */
export function shares(title, rows, columns, whole = rows) {
  const row = 24;
  const height = rows.length * row + 26;
  const at = (value) => 200 + value * 380;
  const svg = draw("svg", { class: "chart", viewBox: `0 0 640 ${height}`, role: "img", "aria-label": title });
  for (let step = 0; step <= 4; step += 1) {
    const x = at(step / 4);
    svg.append(draw("line", { class: step ? "grid" : "axis", x1: x, x2: x, y1: 4, y2: height - 22 }),
      draw("text", { x, y: height - 6, "text-anchor": "middle" }, percent(step / 4, 0)));
  }
  rows.forEach(({ name, share }, index) => {
    const y = 4 + index * row + row / 2;
    svg.append(
      draw("text", { class: "strong", x: 192, y: y + 4, "text-anchor": "end" }, name),
      draw("line", { class: "bar-line", x1: at(share.low), x2: at(share.high), y1: y, y2: y }),
      ...(share.value === null ? [] : [draw("circle", { class: "dot", cx: at(share.value), cy: y, r: 4.5 })]),
      draw("text", { x: 590, y: y + 4 }, `n ${share.of}`));
  });
  return figure(svg, title, columns, whole);
}
