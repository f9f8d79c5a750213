//! What does the file of a task say that was made of a call site?
//!
//! A file that a person reads and edits, so it is written as text with comments. The program's own prompt is the instruction of each
//! question: the larger model goes on reading what it read.

use super::{Kind, Site, write::FromSite};
use crate::prepare::{LIVE, quoted};
use std::fmt::Write;

/// Longest instruction; of a longer prompt the beginning and the end are kept.
const INSTRUCTION: usize = 8_000;

pub(super) fn render(site: &Site, from: &FromSite<'_>, input: &str) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = write_task(&mut text, site, from, input);
    text
}

fn write_task(out: &mut String, site: &Site, from: &FromSite<'_>, input: &str) -> std::fmt::Result {
    writeln!(
        out,
        "# A Sizewise task, made of call site {}: what a program asked {} again and again.",
        site.id,
        site.facts.model.escape_default()
    )?;
    writeln!(
        out,
        "# Check it with `sizewise lint`; after a change run `sizewise train {}` again.\n",
        from.name
    )?;
    writeln!(out, "schema = 1\nname = {}\n", quoted(from.name))?;
    writeln!(out, "[input]")?;
    writeln!(out, "fields = [{}]", quoted(input))?;
    writeln!(out, "on_overflow = \"head-tail\"  # longer than a model reads: error | window | head-tail\n")?;
    for asked in &site.questions {
        write_question(out, site, asked)?;
    }
    writeln!(out, "[data]  # paths from this file; what the model answered is in data/teacher.jsonl")?;
    writeln!(out, "train = \"data/train.csv\"   # rows of your own, if you have some")?;
    writeln!(out, "dev = \"data/dev.csv\"       # checked by people; may be looked at")?;
    writeln!(
        out,
        "locked = \"data/locked.csv\" # checked by people; only `certify` opens it; do not look, do not edit"
    )?;
    writeln!(out, "train_labels = \"teacher\"   # gold: checked by people | teacher: given by a model\n")?;
    writeln!(out, "[promise]")?;
    writeln!(
        out,
        "max_served_error = {}  # of the answers given without escalating, at most this share is wrong",
        from.max_served_error
    )?;
    writeln!(out, "confidence = 0.95  # how sure the certificate is of that")?;
    writeln!(out, "openings = 1  # how often the locked rows may be opened in all\n")?;
    writeln!(out, "[cascade]")?;
    writeln!(out, "tiers = \"auto\"  # or a list, cheapest first: [\"static\", \"encoder\"]")?;
    match from.remote {
        Some(provider) => writeln!(
            out,
            "remote = {}  # who answered until now gets what no local tier may answer",
            quoted(provider)
        )?,
        None => writeln!(out, "# remote = \"NAME\"  # a larger model: [provider.NAME] of sizewise.toml")?,
    }
    writeln!(out, "escalate_to = \"person\"  # person: the review queue | none: abstain\n")?;
    writeln!(out, "[privacy]")?;
    let may_leave = if from.remote.is_some() { "redacted" } else { "never" };
    writeln!(
        out,
        "may_leave = \"{may_leave}\"  # never | redacted | yes; the relay passes texts on as they are"
    )?;
    writeln!(out, "store = \"redacted\"  # what records keep of an input: nothing | redacted | full")?;
    writeln!(out, "retention_days = 30\n")?;
    out.write_str(LIVE)?;
    if !from.budget.is_empty() {
        writeln!(out, "\n[budget]  # for `remote`, as under [relay]")?;
        from.budget.iter().try_for_each(|(key, dollars)| writeln!(out, "{key} = {dollars}"))?;
    }
    Ok(())
}

fn write_question(out: &mut String, site: &Site, asked: &super::Asked) -> std::fmt::Result {
    if !asked.kind.is_question() {
        return writeln!(
            out,
            "# `{}` is left out: it is {}.\n",
            asked.name.escape_default(),
            if asked.kind == Kind::Free { "free text" } else { "always the same" }
        );
    }
    let several = site.questions.len() > 1;
    let mut instructions = shortened(&site.prompt());
    if several {
        let _ = write!(instructions, "\n\nThis question: `{}` of the answer.", asked.name);
    }
    writeln!(out, "[[question]]\nname = {}\ntype = \"{}\"", quoted(&asked.name), asked.kind.name())?;
    writeln!(out, "instructions = {}", quoted(instructions.trim()))?;
    let labels = asked.kind.labels();
    match &asked.kind {
        Kind::Predicate { .. } => {
            if let [(yes, _), (no, _)] = labels {
                writeln!(out, "labels = {{ yes = {}, no = {} }}", quoted(yes), quoted(no))?;
            }
        }
        Kind::Score { .. } => {
            writeln!(out, "levels = [  # from the lowest up")?;
            labels.iter().try_for_each(|(label, _)| writeln!(out, "  {{ label = {} }},", quoted(label)))?;
            writeln!(out, "]")?;
        }
        _ => {
            writeln!(
                out,
                "choices = [  # a description helps people, and the language models of later tiers"
            )?;
            let mut values: Vec<&str> = labels.iter().map(|(label, _)| label.as_str()).collect();
            values.sort_unstable();
            values.iter().try_for_each(|value| writeln!(out, "  {{ value = {} }},", quoted(value)))?;
            writeln!(out, "]")?;
        }
    }
    writeln!(out)
}

fn shortened(prompt: &str) -> String {
    let count = prompt.chars().count();
    if count <= INSTRUCTION {
        return prompt.to_owned();
    }
    let head: String = prompt.chars().take(INSTRUCTION / 2).collect();
    let tail: String = prompt.chars().skip(count - INSTRUCTION / 2).collect();
    format!("{head} … {tail}")
}
