//! How do risk and coverage, and confidence and truth, look?

use super::escaped;
use crate::{evaluation::QuestionEvaluation, table::percent};
use sizewise_contract::Certificate;
use std::fmt::Write;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 44.0;

/// A plot with axes from 0 to one and from 0 to `top`.
struct Frame {
    top: f64,
}

impl Frame {
    fn x(&self, share: f64) -> f64 {
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (value / self.top).min(1.0) * (HEIGHT - TOP - BOTTOM)
    }

    fn begin(&self, title: &str, axes: (&str, &str)) -> String {
        let mut out = format!(
            "<figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            escaped(title)
        );
        for step in 0..=5 {
            let share = f64::from(step) / 5.0;
            let (x, y) = (self.x(share), self.y(share * self.top));
            let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>"
            );
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                short(share * self.top)
            );
            let _ = writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 16.0,
                short(share)
            );
        }
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            self.x(0.5),
            HEIGHT - 8.0,
            axes.0
        );
        let middle = self.y(self.top / 2.0);
        let _ = writeln!(
            out,
            "<text transform=\"translate(14 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            axes.1
        );
        out
    }
}

/// A share in per cent, with a decimal only where there is one.
fn short(share: f64) -> String {
    let value = share * 100.0;
    if (value - value.round()).abs() < 1e-6 { format!("{value:.0} %") } else { percent(share) }
}

/// Served error against coverage, with its interval, the promise and the point in force.
pub(super) fn risk_coverage(measured: &QuestionEvaluation, certificate: Option<&Certificate>) -> String {
    let promise = measured.promise.max_served_error;
    let worst = measured.curve.iter().map(|point| point.served_error.value).fold(0.0, f64::max);
    let top = (worst * 1.15).max(promise * 2.0).min(1.0);
    let top = (top * 20.0).ceil() / 20.0;
    let frame = Frame { top };
    let mut out = frame.begin("Served error against coverage", ("coverage", "served error"));
    let points = measured.curve.iter().filter(|point| point.served_error.of > 0);
    let upper: Vec<String> = points
        .clone()
        .map(|p| format!("{:.1},{:.1}", frame.x(p.coverage), frame.y(p.served_error.high)))
        .collect();
    let lower: Vec<String> = points
        .clone()
        .rev()
        .map(|p| format!("{:.1},{:.1}", frame.x(p.coverage), frame.y(p.served_error.low)))
        .collect();
    let _ = writeln!(out, "<polygon class=\"band\" points=\"{} {}\"/>", upper.join(" "), lower.join(" "));
    let line: Vec<String> =
        points.map(|p| format!("{:.1},{:.1}", frame.x(p.coverage), frame.y(p.served_error.value))).collect();
    let _ = writeln!(out, "<polyline class=\"curve\" points=\"{}\"/>", line.join(" "));
    let y = frame.y(promise);
    let _ = writeln!(
        out,
        "<line class=\"promise\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"/>",
        WIDTH - RIGHT
    );
    let _ = writeln!(
        out,
        "<text class=\"promise\" x=\"{:.1}\" y=\"{:.1}\">promise {}</text>",
        LEFT + 6.0,
        y - 5.0,
        percent(promise)
    );
    let cascade = &measured.cascade;
    let (x, y) = (frame.x(cascade.coverage.value), frame.y(cascade.served_error.value));
    let _ = writeln!(
        out,
        "<circle class=\"here\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"><title>threshold in force: coverage {}, served error {}</title></circle>",
        percent(cascade.coverage.value),
        percent(cascade.served_error.value)
    );
    let mut caption =
        "Line and band: measured on the rows named at the end. Dot: the threshold in force".to_owned();
    if let Some(certificate) = certificate.filter(|certificate| certificate.verdict.is_certified()) {
        let counts = &certificate.counts;
        let coverage = counts.answered as f64 / counts.rows.max(1) as f64;
        let error = counts.wrong as f64 / counts.answered.max(1) as f64;
        let bound = counts.served_error_bound;
        let (x, y, high) = (frame.x(coverage), frame.y(error), frame.y(bound));
        let _ = writeln!(
            out,
            "<line class=\"locked\" x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{x:.1}\" y2=\"{high:.1}\"/>"
        );
        let _ = writeln!(
            out,
            "<rect class=\"locked\" x=\"{:.1}\" y=\"{:.1}\" width=\"9\" height=\"9\"><title>locked rows: coverage {}, served error {}, at most {}</title></rect>",
            x - 4.5,
            y - 4.5,
            percent(coverage),
            percent(error),
            percent(bound)
        );
        caption += ". Square: the locked rows, with the upper bound";
    }
    let _ = writeln!(out, "</svg><figcaption>{caption}.</figcaption></figure>");
    out
}

/// How often answers of a confidence are right.
pub(super) fn reliability(measured: &QuestionEvaluation) -> String {
    let frame = Frame { top: 1.0 };
    let mut out = frame.begin("Share right against confidence", ("confidence", "share right"));
    let _ = writeln!(
        out,
        "<line class=\"promise\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        frame.x(0.0),
        frame.y(0.0),
        frame.x(1.0),
        frame.y(1.0)
    );
    for bin in &measured.reliability {
        let (x, low, high) = (frame.x(bin.confidence), frame.y(bin.right.low), frame.y(bin.right.high));
        let _ = writeln!(
            out,
            "<line class=\"locked\" x1=\"{x:.1}\" y1=\"{low:.1}\" x2=\"{x:.1}\" y2=\"{high:.1}\"/>"
        );
        let _ = writeln!(
            out,
            "<circle class=\"here\" cx=\"{x:.1}\" cy=\"{:.1}\" r=\"4\"><title>confidence {:.3}: {} of {} right</title></circle>",
            frame.y(bin.right.value),
            bin.confidence,
            bin.right.count,
            bin.right.of
        );
    }
    let _ = writeln!(
        out,
        "</svg><figcaption>Ten groups of equal size, with intervals; on the line, confidence means what it says.</figcaption></figure>"
    );
    out
}
