//! How does a release look on one page that needs no network and no program?
//!
//! Everything is in the file: styles, plots as SVG, no script. Texts of users' data are escaped, and the page's own policy
//! forbids it to load or run anything.

pub(crate) mod bench;
mod plots;

use crate::{
    clock,
    evaluation::{Evaluation, QuestionEvaluation},
    table::{percent, with_interval},
};
use sizewise_contract::{Certificate, Question, Task, Verdict};
use sizewise_measure::metrics::Estimate;
use sizewise_store::Release;
use std::fmt::Write;

/// From how many classes on the matrix gives way to a list of pairs.
const MATRIX_CLASSES: usize = 30;

const STYLE: &str = include_str!("html/report.css");

/// Text made safe for a page.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The page about a release.
pub(crate) fn report(task: &Task, release: &Release, evaluation: &Evaluation) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_page(&mut out, task, release, evaluation);
    out
}

fn write_page(out: &mut String, task: &Task, release: &Release, evaluation: &Evaluation) -> std::fmt::Result {
    let name = escaped(&task.name);
    begin_page(out, &format!("{name} – Sizewise report"))?;
    writeln!(out, "<header><h1>{name}</h1>")?;
    writeln!(
        out,
        "<p>Release <code>{}</code>, made {} by {}. Written {}.</p></header>",
        release.id.short(),
        clock::minute(release.manifest.made_at),
        escaped(&release.manifest.made_by),
        clock::minute(clock::now())
    )?;
    for (asked, measured) in task.questions.iter().zip(&evaluation.questions) {
        let certificate = release.certificates.iter().find(|certificate| certificate.question == asked.name);
        write_question(out, (task, asked), certificate, measured)?;
    }
    write_provenance(out, release, evaluation)?;
    writeln!(out, "</main>\n</body>\n</html>")
}

/// Everything before the first heading. `title` is markup.
fn begin_page(out: &mut String, title: &str) -> std::fmt::Result {
    writeln!(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">")?;
    writeln!(
        out,
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    )?;
    writeln!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")?;
    writeln!(out, "<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>")
}

fn write_question(
    out: &mut String,
    (task, asked): (&Task, &Question),
    certificate: Option<&Certificate>,
    measured: &QuestionEvaluation,
) -> std::fmt::Result {
    let promise = task.promise_of(asked);
    writeln!(out, "<section>\n<h2>{}</h2>", escaped(&asked.name))?;
    if !asked.instructions.is_empty() {
        writeln!(out, "<p class=\"asked\">{}</p>", escaped(&asked.instructions))?;
    }
    writeln!(
        out,
        "<p><strong>The promise:</strong> of the answers given without escalating at most {} are wrong, with {:.0} % confidence.</p>",
        percent(promise.max_served_error),
        promise.confidence * 100.0
    )?;
    write_certificate(out, certificate)?;
    write_figures(out, measured)?;
    writeln!(out, "<div class=\"plots\">")?;
    out.push_str(&plots::risk_coverage(measured, certificate));
    out.push_str(&plots::reliability(measured));
    writeln!(out, "</div>")?;
    write_classes(out, measured)?;
    write_confusions(out, asked, measured)?;
    write_mistakes(out, measured)?;
    writeln!(out, "</section>")
}

fn write_certificate(out: &mut String, certificate: Option<&Certificate>) -> std::fmt::Result {
    let Some(certificate) = certificate else {
        return writeln!(
            out,
            "<p class=\"verdict open\"><strong>Not put to the test.</strong> Nothing is proven; <code>sizewise certify</code> does that.</p>"
        );
    };
    let counts = &certificate.counts;
    let (class, told) = match &certificate.verdict {
        Verdict::Certified => (
            "good",
            format!(
                "<strong>Certified.</strong> {} of {} locked rows were answered, {} of them wrongly; with {:.0} % confidence at most {} of what is answered is wrong.",
                counts.answered,
                counts.rows,
                counts.wrong,
                certificate.promise.confidence * 100.0,
                percent(counts.served_error_bound.min(certificate.promise.max_served_error))
            ),
        ),
        Verdict::Refused { reason } => ("bad", format!("<strong>Refused.</strong> {}.", escaped(reason))),
        Verdict::InsufficientEvidence { label_more } => (
            "open",
            format!(
                "<strong>Insufficient evidence.</strong> About {label_more} more locked rows would settle it."
            ),
        ),
    };
    writeln!(out, "<p class=\"verdict {class}\">{told}</p>")?;
    writeln!(out, "<details><summary>The test, step by step</summary>")?;
    writeln!(
        out,
        "<p>The chance said before the rows were opened: {:.0} %. Opening {} of {} planned, {}. Thresholds were fixed on other rows, from strict to loose; each is tested with the exact binomial tail until one fails.</p>",
        certificate.chance_before * 100.0,
        certificate.opening,
        certificate.openings_planned,
        clock::minute(certificate.opened_at)
    )?;
    begin_table(
        out,
        "",
        "The tests",
        &[
            ("threshold", false),
            ("answered", false),
            ("wrong", false),
            ("P-value", false),
            ("level", false),
            ("promise shown", false),
        ],
    )?;
    for test in &certificate.tests {
        writeln!(
            out,
            "<tr><td>{:.4}</td><td>{}</td><td>{}</td><td>{:.2e}</td><td>{:.3}</td><td>{}</td></tr>",
            test.threshold,
            test.answered,
            test.wrong,
            test.p_value,
            test.level,
            if test.rejected { "yes" } else { "no" }
        )?;
    }
    end_table(out)?;
    writeln!(out, "</details>")?;
    write_slices(out, certificate)?;
    write_gates(out, certificate)
}

fn write_slices(out: &mut String, certificate: &Certificate) -> std::fmt::Result {
    if certificate.slices.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h3>Slice by slice, on the locked rows</h3>")?;
    begin_table(
        out,
        "",
        "Slice by slice",
        &[
            ("slice", true),
            ("rows", false),
            ("coverage", false),
            ("wrong", false),
            ("served error", false),
            ("", true),
        ],
    )?;
    let interval = |of: &sizewise_contract::Interval| {
        format!("{} ({}–{})", percent(of.value), percent(of.low), percent(of.high))
    };
    for slice in &certificate.slices {
        writeln!(
            out,
            "<tr><th scope=\"row\" class=\"text\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"text\">{}</td></tr>",
            escaped(&crate::commands::gates::name(slice)),
            slice.rows,
            interval(&slice.coverage),
            slice.wrong,
            interval(&slice.served_error),
            crate::commands::gates::verdict(slice)
        )?;
    }
    end_table(out)?;
    writeln!(out, "<p>All these intervals hold together with the confidence that was promised.</p>")
}

fn write_gates(out: &mut String, certificate: &Certificate) -> std::fmt::Result {
    if certificate.gates.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h3>Gates</h3>")?;
    begin_table(out, "", "Gates", &[("gate", true), ("result", true), ("found", true)])?;
    for gate in &certificate.gates {
        writeln!(
            out,
            "<tr><th scope=\"row\" class=\"text\">{}</th><td class=\"text\">{}</td><td class=\"text\">{}</td></tr>",
            gate.name.name(),
            gate.result.name(),
            escaped(&gate.found)
        )?;
    }
    end_table(out)?;
    let Some(overridden) = &certificate.overridden else { return Ok(()) };
    let (actor, reason) = (escaped(&overridden.actor), escaped(&overridden.reason));
    writeln!(out, "<p>Overridden {} by {actor}: {reason}</p>", clock::minute(overridden.at))
}

fn write_figures(out: &mut String, measured: &QuestionEvaluation) -> std::fmt::Result {
    let cascade = &measured.cascade;
    begin_table(out, "figures", "Figures", &[])?;
    let line = |out: &mut String, name: &str, value: String| {
        writeln!(out, "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>")
    };
    line(out, "rows", format!("{}, of which {} out of scope", measured.rows, measured.out_of_scope_rows))?;
    for tier in &measured.tiers {
        line(out, &format!("{} alone, right in scope", tier.tier), with_interval(&tier.accuracy))?;
    }
    let source = if cascade.certified { "certified" } else { "not certified" };
    line(out, "threshold", format!("{:.4} ({source})", cascade.threshold))?;
    line(out, "coverage", with_interval(&cascade.coverage))?;
    line(out, "served error", with_interval(&cascade.served_error))?;
    if measured.out_of_scope_rows > 0 {
        line(out, "out of scope but answered", with_interval(&cascade.out_of_scope_answered))?;
    }
    if let Some(auroc) = &measured.out_of_scope_auroc {
        line(out, "out-of-scope AUROC", estimate(auroc))?;
    }
    line(out, "macro F1, all answered", estimate(&measured.macro_f1))?;
    line(out, "calibration error", estimate(&measured.calibration_error))?;
    line(out, "Brier score", estimate(&measured.brier))?;
    end_table(out)
}

fn estimate(estimate: &Estimate) -> String {
    format!("{:.3} ({:.3}–{:.3})", estimate.value, estimate.low, estimate.high)
}

fn write_classes(out: &mut String, measured: &QuestionEvaluation) -> std::fmt::Result {
    writeln!(out, "<h3>Class by class, every row answered</h3>")?;
    begin_table(
        out,
        "",
        "Class by class",
        &[("class", true), ("rows", false), ("precision", false), ("recall", false), ("F1", false)],
    )?;
    for class in &measured.classes {
        writeln!(
            out,
            "<tr><th scope=\"row\" class=\"text\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{:.3}</td></tr>",
            escaped(&class.class),
            class.rows,
            with_interval(&class.precision),
            with_interval(&class.recall),
            class.f1
        )?;
    }
    end_table(out)
}

fn write_confusions(out: &mut String, asked: &Question, measured: &QuestionEvaluation) -> std::fmt::Result {
    writeln!(out, "<h3>Confusions</h3>")?;
    if measured.confusions.is_empty() {
        return writeln!(out, "<p>None.</p>");
    }
    let values = asked.class_values();
    if values.len() <= MATRIX_CLASSES {
        return write_matrix(out, &values, measured);
    }
    begin_table(out, "", "Confused classes", &[("is", true), ("answered as", true), ("rows", false)])?;
    for confusion in &measured.confusions {
        writeln!(
            out,
            "<tr><td class=\"text\">{}</td><td class=\"text\">{}</td><td>{}</td></tr>",
            escaped(&confusion.truth),
            escaped(&confusion.answer),
            confusion.rows
        )?;
    }
    end_table(out)
}

/// Truth down, answers across; the right ones are on the diagonal.
fn write_matrix(out: &mut String, values: &[&str], measured: &QuestionEvaluation) -> std::fmt::Result {
    let most = measured.confusions.iter().map(|confusion| confusion.rows).max().unwrap_or(1);
    let mut truths: Vec<&str> = values.to_vec();
    if measured.out_of_scope_rows > 0 {
        truths.push("(out of scope)");
    }
    let mut columns = vec![("is ↓ answered as →".to_owned(), true)];
    columns.extend(values.iter().map(|value| (format!("<span>{}</span>", escaped(value)), false)));
    let columns: Vec<(&str, bool)> = columns.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    begin_table(out, "matrix", "Confusion matrix", &columns)?;
    for truth in truths {
        writeln!(out, "<tr><th scope=\"row\" class=\"text\">{}</th>", escaped(truth))?;
        for answer in values {
            let right = measured.classes.iter().find(|class| class.class == *answer && truth == *answer);
            let wrong = measured.confusions.iter().find(|c| c.truth == truth && c.answer == *answer);
            match (right, wrong) {
                (Some(class), _) => writeln!(out, "<td class=\"right\">{}</td>", class.recall.count)?,
                (None, Some(confusion)) => {
                    let shade = 15 + 35 * confusion.rows / most.max(1);
                    writeln!(out, "<td style=\"--shade:{shade}%\" class=\"wrong\">{}</td>", confusion.rows)?;
                }
                (None, None) => writeln!(out, "<td></td>")?,
            }
        }
        writeln!(out, "</tr>")?;
    }
    end_table(out)
}

fn write_mistakes(out: &mut String, measured: &QuestionEvaluation) -> std::fmt::Result {
    writeln!(out, "<h3>The surest mistakes</h3>")?;
    if measured.mistakes.is_empty() {
        return writeln!(out, "<p>None.</p>");
    }
    begin_table(
        out,
        "",
        "The surest mistakes",
        &[
            ("row", false),
            ("confidence", false),
            ("what became of it", true),
            ("is", true),
            ("answered as", true),
            ("text", true),
        ],
    )?;
    for mistake in &measured.mistakes {
        let text: String = mistake.text.chars().take(600).collect();
        writeln!(
            out,
            "<tr><td>{}</td><td>{:.3}</td><td class=\"text\">{} by {}</td><td class=\"text\">{}</td><td class=\"text\">{}</td><td class=\"text words\">{}</td></tr>",
            mistake.row,
            mistake.confidence,
            if mistake.served { "served" } else { "escalated" },
            mistake.tier,
            escaped(&mistake.truth),
            escaped(&mistake.answer),
            escaped(&text)
        )?;
    }
    end_table(out)
}

/// Begins a table that scrolls by itself where the page is narrow. Columns are names (as markup) and whether they hold words.
fn begin_table(out: &mut String, class: &str, label: &str, columns: &[(&str, bool)]) -> std::fmt::Result {
    writeln!(
        out,
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{label}\"><table class=\"{class}\">"
    )?;
    if !columns.is_empty() {
        out.push_str("<thead><tr>");
        for (name, is_text) in columns {
            let class = if *is_text { " class=\"text\"" } else { "" };
            write!(out, "<th scope=\"col\"{class}>{name}</th>")?;
        }
        out.push_str("</tr></thead>");
    }
    writeln!(out, "<tbody>")
}

fn end_table(out: &mut String) -> std::fmt::Result {
    writeln!(out, "</tbody></table></div>")
}

fn write_provenance(out: &mut String, release: &Release, evaluation: &Evaluation) -> std::fmt::Result {
    writeln!(out, "<section>\n<h2>Provenance</h2>")?;
    begin_table(out, "figures", "Provenance", &[])?;
    let locked = release.certificates.first().map(|certificate| certificate.locked_rows.to_string());
    for (name, value) in [
        ("release", release.id.to_string()),
        ("contract", release.manifest.contract.to_string()),
        ("models", release.models().to_string()),
        ("rows fitted and calibrated on", release.manifest.training_rows.to_string()),
        ("locked rows", locked.unwrap_or_else(|| "not opened".into())),
        ("table measured here", escaped(&evaluation.table)),
        ("its texts and labels", evaluation.rows_hash.to_string()),
    ] {
        writeln!(out, "<tr><th scope=\"row\">{name}</th><td><code>{value}</code></td></tr>")?;
    }
    end_table(out)?;
    writeln!(
        out,
        "<p>Plots and tables above are measured on the table named here; the verdict alone comes from the locked rows. Intervals are at 95\u{a0}%: exact binomial for shares, resampling for the others.</p>\n</section>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_becomes_markup() {
        assert_eq!(
            escaped("<script>alert('x')</script> & \"y\"\u{1b}"),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;y&quot;\u{fffd}"
        );
    }
}
