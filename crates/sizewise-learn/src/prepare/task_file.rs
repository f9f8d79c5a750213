//! What does the new task's file say?
//!
//! A file that a person reads and edits, so it is written as text with comments rather than from the types.

use super::{
    Options,
    columns::{LabelGuess, Plan, label_shape, out_of_scope_label},
    findings::Findings,
};
use sizewise_contract::task::LabelSource;
use std::fmt::Write;

pub(super) fn render(options: &Options, plan: &Plan, findings: &Findings) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = write_task(&mut text, options, plan, findings);
    text
}

fn write_task(out: &mut String, options: &Options, plan: &Plan, findings: &Findings) -> std::fmt::Result {
    writeln!(out, "# A Sizewise task: what is asked, what is promised, and under which rules.")?;
    writeln!(
        out,
        "# Check it with `sizewise lint`; after a change run `sizewise train {}` again.\n",
        options.name
    )?;
    writeln!(out, "schema = 1\nname = {}\n", quoted(&options.name))?;
    writeln!(out, "[input]")?;
    let fields: Vec<String> = plan.text.iter().map(|field| quoted(field)).collect();
    writeln!(out, "fields = [{}]  # columns of the tables; keys of structured requests", fields.join(", "))?;
    let overflow = if findings.long_inputs > 0 { "head-tail" } else { "error" };
    writeln!(out, "on_overflow = \"{overflow}\"  # longer than a model reads: error | window | head-tail\n")?;
    for (question, classes) in &findings.classes {
        let labels: Vec<&str> = classes.keys().map(String::as_str).collect();
        write_question(out, options, question, &labels)?;
    }
    writeln!(out, "[data]  # paths from this file")?;
    writeln!(out, "train = \"data/train.csv\"   # fitted on")?;
    writeln!(out, "dev = \"data/dev.csv\"       # fixes the order of thresholds; may be looked at")?;
    writeln!(out, "locked = \"data/locked.csv\" # only `certify` opens it; do not look, do not edit")?;
    let source = if options.label_source == LabelSource::Gold { "gold" } else { "teacher" };
    writeln!(out, "train_labels = \"{source}\"    # gold: checked by people | teacher: given by a model")?;
    if let Some(group) = &plan.group {
        writeln!(out, "group = {}  # never on both sides of a split", quoted(group))?;
    }
    if let Some(time) = &plan.time {
        writeln!(out, "time = {}  # the locked rows are the latest", quoted(time))?;
    }
    if !plan.slices.is_empty() {
        let columns: Vec<String> = plan.slices.iter().map(|column| quoted(column)).collect();
        writeln!(out, "slices = [{}]  # each value is judged for itself by `certify`", columns.join(", "))?;
    }
    writeln!(out, "\n[promise]")?;
    writeln!(
        out,
        "max_served_error = {}  # of the answers given without escalating, at most this share is wrong",
        options.max_served_error
    )?;
    writeln!(out, "confidence = 0.95  # how sure the certificate is of that")?;
    writeln!(
        out,
        "openings = 1  # how often the locked rows may be opened in all; the risk is divided among them\n"
    )?;
    writeln!(out, "[cascade]")?;
    writeln!(out, "tiers = \"auto\"  # or a list, cheapest first: [\"static\", \"encoder\"]")?;
    writeln!(
        out,
        "# remote = \"NAME\"  # first a larger model: [provider.NAME] of sizewise.toml, within may_leave and [budget]"
    )?;
    writeln!(out, "escalate_to = \"person\"  # person: the review queue | none: abstain\n")?;
    writeln!(out, "[privacy]")?;
    writeln!(out, "may_leave = \"never\"  # never | redacted | yes")?;
    writeln!(out, "store = \"redacted\"  # what records keep of an input: nothing | redacted | full")?;
    writeln!(out, "retention_days = 30\n")?;
    out.write_str(LIVE)
}

/// How promises are watched, for every new task.
pub(crate) const LIVE: &str = "[live]  # how the promise is watched once it is served
probe_share = 0.02  # of the requests also go to the reference, at random; none: 0
probes_per_day = 100  # at most; what people can look at
reference = \"person\"  # person: the review queue | remote: the larger model
look_share = 1.0  # of the requests are looked at for new kinds of input, at most ten a second; none: 0
";

fn write_question(out: &mut String, options: &Options, question: &str, labels: &[&str]) -> std::fmt::Result {
    let outside =
        options.out_of_scope.clone().filter(|label| labels.contains(&label.as_str())).or_else(|| {
            if labels.len() > 3 || options.out_of_scope.is_none() {
                out_of_scope_label(labels.iter().copied())
            } else {
                None
            }
        });
    let labels: Vec<&str> =
        labels.iter().copied().filter(|label| outside.as_deref() != Some(label)).collect();
    writeln!(out, "[[question]]\nname = {}", quoted(question))?;
    match label_shape(&labels) {
        LabelGuess::Predicate(pair) => {
            writeln!(out, "type = \"predicate\"\ninstructions = \"Is it {}?\"", escaped(question))?;
            if let Some((yes, no)) = pair {
                writeln!(out, "labels = {{ yes = {}, no = {} }}", quoted(&yes), quoted(&no))?;
            }
        }
        LabelGuess::Score(levels) => {
            writeln!(out, "type = \"score\"\ninstructions = \"How high is the {}?\"", escaped(question))?;
            writeln!(out, "levels = [  # from the lowest up")?;
            levels.iter().try_for_each(|level| writeln!(out, "  {{ label = {} }},", quoted(level)))?;
            writeln!(out, "]")?;
        }
        LabelGuess::Choice => {
            writeln!(out, "type = \"choice\"\ninstructions = \"Which {} fits?\"", escaped(question))?;
            writeln!(
                out,
                "choices = [  # a description helps people, and the language models of later tiers"
            )?;
            labels.iter().try_for_each(|label| writeln!(out, "  {{ value = {} }},", quoted(label)))?;
            writeln!(out, "]")?;
        }
    }
    if let Some(label) = outside {
        writeln!(out, "out_of_scope = \"escalate\"  # or a value of its own")?;
        writeln!(out, "out_of_scope_label = {}  # marks such rows in the data", quoted(&label))?;
    }
    writeln!(out)
}

fn escaped(text: &str) -> String {
    let quoted = quoted(text);
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

/// A TOML basic string.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_survives_quoting(text in "\\PC{0,40}|[\0-\u{1f}\"\\\\]{0,10}") {
            let table: toml::Table = format!("x = {}", quoted(&text)).parse().unwrap();
            prop_assert_eq!(table["x"].as_str(), Some(text.as_str()));
        }
    }
}
