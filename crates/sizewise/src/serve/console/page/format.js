// How are shares, money and moments written? As the command line does: per cent with a blank, moments in UTC.

/** A share in per cent. */
export function percent(share, digits) {
  if (share === undefined || share === null || Number.isNaN(share)) return "–";
  const value = share * 100;
  const places = digits ?? (value !== 0 && Math.abs(value) < 9.95 ? 1 : value === 100 || value === 0 ? 0 : 1);
  return `${value.toFixed(places)} %`;
}

/** A share beside an axis: without a decimal that says nothing. */
export function axis(share) {
  return `${Number((share * 100).toFixed(1))} %`;
}

/** Two ends of an interval. */
export function range(low, high) {
  return `${(low * 100).toFixed(1)}–${(high * 100).toFixed(1)} %`;
}

/** A counted share with its interval and sample size. */
export function share(s) {
  if (!s || s.of === 0 || s.value === null) return "no rows";
  return `${percent(s.value)} (${range(s.low, s.high)}, n ${count(s.of)})`;
}

/** The interval and the sample size of a share that stands above. */
export function spread(s) {
  return s && s.of > 0 ? `${range(s.low, s.high)}, n ${count(s.of)}` : "no rows";
}

/** A value with its interval. */
export function estimate(e) {
  return e ? `${e.value.toFixed(3)} (${e.low.toFixed(3)}–${e.high.toFixed(3)})` : "–";
}

/** Digits in groups of three. */
export function count(number) {
  return String(number).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

/** Millionths of a dollar. */
export function money(micro) {
  if (micro === undefined || micro === null) return "–";
  const dollars = micro / 1e6;
  if (micro === 0) return "$0";
  return dollars >= 1 ? `$${dollars.toFixed(2)}` : `$${dollars.toPrecision(2)}`;
}

/** A limit in dollars, as settings have it. */
export function budget(limits) {
  const told = [["usd_per_day", "a day"], ["usd_per_month", "a month"], ["usd_total", "in all"]]
    .filter(([name]) => limits?.[name] !== undefined && limits?.[name] !== null)
    .map(([name, period]) => `$${limits[name]} ${period}`);
  return told.length ? told.join(", ") : "none";
}

/** A moment to the minute. */
export function moment(ms) {
  if (ms === undefined || ms === null) return "–";
  return `${new Date(ms).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

/** A time in the unit that people would use. */
export function duration(us) {
  if (us === undefined || us === null) return "–";
  if (us < 1e3) return `${us} µs`;
  if (us < 1e6) return `${(us / 1e3).toFixed(us < 1e4 ? 1 : 0)} ms`;
  return `${(us / 1e6).toFixed(1)} s`;
}

/** The beginning of a hash. */
export function short(hash) {
  return hash ? String(hash).slice(0, 12) : "–";
}

/** A word of the wire for people: `below_threshold` is `below threshold`. */
export function words(name) {
  return String(name ?? "").replaceAll("_", " ");
}

/** At most so many characters. */
export function shortened(text, most) {
  const whole = String(text);
  return whole.length > most ? `${whole.slice(0, most - 1)}…` : whole;
}
