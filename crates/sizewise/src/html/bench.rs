//! How do speed and quality of the tiers look on one page?
//!
//! Self-contained like the report: styles and an SVG plot in the file, no script, nothing loaded.

use super::{begin_page, begin_table, end_table, escaped};
use crate::{
    clock,
    commands::bench::{Measured, Measurements, Quality, TierMeasurement, remarks},
    table::with_interval,
};
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 40.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 46.0;

/// The page about measured tiers.
pub(crate) fn page(measured: &Measured) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_page(&mut out, measured);
    out
}

fn write_page(out: &mut String, measured: &Measured) -> std::fmt::Result {
    let name = escaped(&measured.task);
    begin_page(out, &format!("{name} – Sizewise bench"))?;
    writeln!(out, "<header><h1>{name}: speed, quality and cost</h1>")?;
    writeln!(
        out,
        "<p>{} rows of <code>{}</code>, one thread, {}, medians of {} rounds. Written {}.</p></header>",
        measured.rows,
        escaped(&measured.table),
        measured.kernel,
        measured.rounds,
        clock::minute(clock::now())
    )?;
    writeln!(out, "<div class=\"plots\">")?;
    for question in questions(measured) {
        write_plot(out, measured, question)?;
    }
    writeln!(out, "</div>")?;
    for release in &measured.releases {
        write_release(out, release)?;
    }
    writeln!(out, "<section>\n<h2>How to read it</h2>\n<p>{}</p>", escaped(&remarks(measured)))?;
    writeln!(
        out,
        "<p>Rows: <code>{}</code>. Left out: {} locked, {} fitted on.</p>\n</section>\n</main>\n</body>\n</html>",
        measured.rows_hash, measured.locked_left_out, measured.fitted_left_out
    )
}

fn questions(measured: &Measured) -> Vec<&str> {
    let all = measured.releases.iter().flat_map(Measurements::qualities);
    let mut names: Vec<&str> = Vec::new();
    for (_, quality) in all {
        if !names.contains(&quality.question.as_str()) {
            names.push(&quality.question);
        }
    }
    names
}

fn write_release(out: &mut String, release: &Measurements) -> std::fmt::Result {
    let standing = if release.in_force { ", in force" } else { "" };
    writeln!(
        out,
        "<section>\n<h2>Release <code>{}</code>{standing}</h2>\n<p>Made {}.</p>",
        release.release.short(),
        clock::minute(release.made_at)
    )?;
    let columns = [
        "",
        "p50",
        "p99",
        "per core-second",
        "disk, own + shared",
        "memory",
        "Wh / million",
        "USD / million",
    ];
    let rows = release.tiers.iter().map(|tier| tier.cells().to_vec());
    write_cells(out, ("Speed and cost", &columns), rows)?;
    if !release.comparable {
        return writeln!(
            out,
            "<p>Fitted on other rows or for another contract: its accuracy here would say nothing.</p>\n</section>"
        );
    }
    let columns = ["", "question", "right, all in scope", "coverage", "served error"];
    let rows = release.qualities().map(|(tier, quality)| quality.cells(tier).to_vec());
    write_cells(out, ("Quality", &columns), rows)?;
    writeln!(out, "</section>")
}

fn write_cells(
    out: &mut String,
    (label, columns): (&str, &[&str]),
    rows: impl Iterator<Item = Vec<String>>,
) -> std::fmt::Result {
    let headings: Vec<(&str, bool)> = columns.iter().map(|name| (*name, name.is_empty())).collect();
    begin_table(out, "", label, &headings)?;
    for row in rows {
        out.push_str("<tr>");
        for (position, cell) in row.iter().enumerate() {
            match position {
                0 => write!(out, "<th scope=\"row\" class=\"text\">{}</th>", escaped(cell))?,
                _ => write!(out, "<td>{}</td>", escaped(cell))?,
            }
        }
        writeln!(out, "</tr>")?;
    }
    end_table(out)
}

/// One dot for every tier of every release: decisions a core-second, and the share that is right.
fn write_plot(out: &mut String, measured: &Measured, question: &str) -> std::fmt::Result {
    let of_question = |(_, quality): &(&TierMeasurement, &Quality)| quality.question == question;
    let dots: Vec<(&Measurements, &TierMeasurement, &Quality)> = measured
        .releases
        .iter()
        .flat_map(|release| {
            release.qualities().filter(of_question).map(move |(tier, quality)| (release, tier, quality))
        })
        .collect();
    let frame = Frame::around(&dots);
    let title = format!("{question}: share right against decisions a core-second");
    writeln!(
        out,
        "<figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        escaped(&title)
    )?;
    frame.write_axes(out)?;
    for (release, tier, quality) in &dots {
        let (x, share) = (frame.x(tier.decisions_per_core_second), &quality.accuracy);
        let (y, low, high) = (frame.y(share.value), frame.y(share.low), frame.y(share.high));
        writeln!(
            out,
            "<line class=\"locked\" x1=\"{x:.1}\" y1=\"{low:.1}\" x2=\"{x:.1}\" y2=\"{high:.1}\"/>"
        )?;
        let class = if release.in_force { "here" } else { "grid" };
        let label = match measured.releases.len() {
            1 => tier.name.to_owned(),
            _ => format!("{} {}", tier.name, release.release.short()),
        };
        writeln!(
            out,
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"><title>{label}: {}, {:.0} a core-second</title></circle>",
            with_interval(share),
            tier.decisions_per_core_second
        )?;
        let (anchor, dx) = if x > WIDTH * 0.75 { ("end", -9.0) } else { ("start", 9.0) };
        // The cascade often lies beside a tier.
        let dy = if tier.name == "cascade" { 18.0 } else { -7.0 };
        writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{label}</text>",
            x + dx,
            y + dy
        )?;
    }
    writeln!(
        out,
        "</svg><figcaption>{}: every in-scope row answered, with intervals.</figcaption></figure>",
        escaped(question)
    )
}

/// Axes: powers of ten across, shares up.
struct Frame {
    least: f64,
    most: f64,
    low: f64,
}

impl Frame {
    fn around(dots: &[(&Measurements, &TierMeasurement, &Quality)]) -> Self {
        let speeds = dots.iter().map(|(_, tier, _)| tier.decisions_per_core_second.max(1e-3).log10());
        let (least, most) =
            speeds.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), s| (low.min(s), high.max(s)));
        let low = dots.iter().map(|(_, _, quality)| quality.accuracy.low).fold(1.0, f64::min);
        let (least, most) = if least <= most { (least.floor(), most.floor() + 1.0) } else { (0.0, 1.0) };
        Self { least, most, low: ((low * 20.0).floor() / 20.0).clamp(0.0, 0.95) }
    }

    fn x(&self, speed: f64) -> f64 {
        let share = (speed.max(1e-3).log10() - self.least) / (self.most - self.least);
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, share: f64) -> f64 {
        HEIGHT - BOTTOM - (share - self.low) / (1.0 - self.low) * (HEIGHT - TOP - BOTTOM)
    }

    fn write_axes(&self, out: &mut String) -> std::fmt::Result {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for step in 0..=5 {
            let share = self.low + (1.0 - self.low) * f64::from(step) / 5.0;
            let y = self.y(share);
            writeln!(out, "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>")?;
            let (x, y) = (LEFT - 6.0, y + 4.0);
            writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{:.0} %</text>",
                share * 100.0
            )?;
        }
        for power in self.least as i32..=self.most as i32 {
            let (value, y) = (10f64.powi(power), bottom + 16.0);
            writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{value}</text>",
                self.x(value)
            )?;
        }
        let (x, y) = ((LEFT + right) / 2.0, HEIGHT - 8.0);
        writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">decisions a core-second</text>"
        )?;
        let middle = (TOP + bottom) / 2.0;
        writeln!(
            out,
            "<text transform=\"translate(14 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">share right</text>"
        )
    }
}
