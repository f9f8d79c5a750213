//! `sizewise discover`: what do programs ask again and again, and what does it cost?

use super::{DONE, trained::store};
use crate::{
    cli::Discover,
    clock,
    error::{Error, Result},
    project::{Observe, Project},
    screen::Screen,
    table::{Align, Table, percent, shortened},
};
use serde::Serialize;
use sizewise_contract::{
    Code, did_you_mean,
    units::{MicroUsd, UnixMillis},
};
use sizewise_engine::redact;
use sizewise_learn::sites::{Asked, Call, Kind, Place, Site, discover};
use sizewise_store::Store;
use std::{collections::BTreeSet, fmt::Write};

/// Thirty days, in milliseconds.
const MONTH_MS: i64 = 30 * 86_400_000;
/// From a shorter time than this no month is told.
const LEAST_SPAN_MS: i64 = 3_600_000;
/// Calls that are shown of a site.
const SAMPLES: usize = 5;
/// Labels that are shown of a question.
const LABELS: usize = 25;

/// A site as it is listed.
#[derive(Serialize)]
pub(crate) struct Listed<'s> {
    #[serde(flatten)]
    site: &'s Site,
    /// What a month costs at this rate; none where the calls came within an hour.
    micro_usd_per_month: Option<u64>,
}

/// A call as it is shown.
#[derive(Serialize)]
struct Sample {
    text: String,
    /// The label of each question. `[questions]`
    labels: Vec<Option<String>>,
}

pub(super) fn run(project: &Project, arguments: &Discover, screen: &Screen) -> Result<u8> {
    let sites = sites(&store(project)?)?;
    match &arguments.show {
        Some(named) => show(&find(sites, named)?, screen),
        None => list(project, &sites, arguments.limit, screen),
    }
    Ok(DONE)
}

/// The call sites of what is recorded, the dearest first.
pub(crate) fn sites(store: &Store) -> Result<Vec<Site>> {
    let mut places = Vec::new();
    for place in store.places()? {
        // What another version wrote and this one cannot read is left out.
        let Ok(facts) = serde_json::from_str(&place.place) else { continue };
        let read = |(at, call): (UnixMillis, String)| Some(Call { at, ..serde_json::from_str(&call).ok()? });
        let kept = store.observed(&place.id)?.into_iter().filter_map(read).collect();
        places.push(Place {
            id: place.id,
            facts,
            calls: place.calls,
            micro_usd: place.micro_usd,
            first_at: place.first_at,
            last_at: place.last_at,
            kept,
        });
    }
    Ok(discover(places))
}

/// The site of this id (or its beginning) or name.
pub(super) fn find(sites: Vec<Site>, named: &str) -> Result<Site> {
    let names: Vec<String> =
        sites.iter().flat_map(|site| site.facts.name.iter().cloned().chain([site.id.clone()])).collect();
    let is = |site: &Site| {
        site.facts.name.as_deref() == Some(named) || (named.len() >= 4 && site.id.starts_with(named))
    };
    let unknown = |hint: String| Error::Policy {
        message: format!("no call site is called `{}`", shortened(named, 100)),
        code: Code::RequestInvalid,
        hint,
    };
    let mut found = sites.into_iter().filter(is);
    match (found.next(), found.next()) {
        (Some(site), None) => Ok(site),
        (Some(_), Some(_)) => Err(unknown("several begin like that: write more of its id".into())),
        (None, _) => {
            let meant = did_you_mean(named, names.iter().map(String::as_str));
            Err(unknown(meant.map_or_else(
                || "`sizewise discover` lists them".to_owned(),
                |meant| format!("did you mean `{meant}`?"),
            )))
        }
    }
}

fn list(project: &Project, sites: &[Site], limit: usize, screen: &Screen) {
    #[derive(Serialize)]
    struct Sites<'s> {
        sites: Vec<Listed<'s>>,
    }
    let shown = Sites { sites: sites.iter().take(limit).map(listed).collect() };
    screen.result("discover", &shown, || match sites {
        [] => nothing(project),
        sites => table(sites, limit),
    });
}

/// A site with what it costs a month.
pub(crate) fn listed(site: &Site) -> Listed<'_> {
    Listed { site, micro_usd_per_month: per_month(site).map(|month| month.0) }
}

fn nothing(project: &Project) -> String {
    let settings = &project.settings().relay;
    match (settings.observe, settings.providers.as_slice()) {
        (Observe::Off, []) => {
            "Nothing is recorded yet. Describe the provider that your programs call in sizewise.toml, let them call it through\n\
             `sizewise serve`, and say that their calls may be recorded:\n\n  \
             [relay]\n  providers = [\"NAME\"]\n  observe = \"redacted\"  # personal data is masked before anything is written\n"
        }
        (Observe::Off, _) => {
            "Nothing is recorded yet. Say so under [relay] in sizewise.toml, and restart `sizewise serve`:\n\n  \
             observe = \"redacted\"  # personal data is masked before anything is written\n"
        }
        _ => "No call was recorded yet. Let a program call the server by a provider's name; only what is answered well is recorded.\n",
    }
    .into()
}

fn table(sites: &[Site], limit: usize) -> String {
    let mut table = Table::new(&[
        ("site", Align::Left),
        ("asks", Align::Left),
        ("what is answered", Align::Left),
        ("calls", Align::Right),
        ("different", Align::Right),
        ("cost so far", Align::Right),
        ("a month", Align::Right),
        ("median", Align::Right),
        ("repeats alike", Align::Right),
        ("examples", Align::Right),
        ("wait for", Align::Right),
    ]);
    for site in sites.iter().take(limit) {
        let repeats = match site.repeats.texts {
            0 => "–".to_owned(),
            texts => percent(site.repeats.alike as f64 / texts as f64),
        };
        let (examples, more) = match site.is_task {
            true => (site.examples.to_string(), format!("+{}", site.worth_waiting_for)),
            false => ("–".into(), "–".into()),
        };
        table.row([
            name(site).to_owned(),
            shortened(&site.facts.model.escape_default().to_string(), 40),
            shortened(&answered(&site.questions), 44),
            site.calls.to_string(),
            site.distinct.to_string(),
            cost(site),
            per_month(site)
                .map_or_else(|| "–".into(), |month| format!("{} (of {})", money(month), span(site))),
            clock::duration(site.median_latency_us as f64 / 1e6),
            repeats,
            examples,
            more,
        ]);
    }
    let mut out = table.render();
    if sites.len() > limit {
        let _ = writeln!(out, "  … and {} more (--limit)", sites.len() - limit);
    }
    write_remarks(&mut out, sites);
    out
}

fn write_remarks(out: &mut String, sites: &[Site]) {
    // Writing into a String cannot fail.
    for site in sites.iter().filter(|site| !site.alike.is_empty()) {
        let others = site.alike.join(", ");
        let _ = writeln!(
            out,
            "\n{} reads nearly like {others}: if they are one, the header x-sizewise-site names it",
            site.id
        );
    }
    if sites.iter().any(|site| site.estimated > 0.0) {
        let _ =
            writeln!(out, "\n~ the provider told no tokens of some calls; they are guessed from the length");
    }
    let (first, last) =
        (sites.iter().map(|site| site.first_at).min(), sites.iter().map(|site| site.last_at).max());
    if let (Some(first), Some(last)) = (first, last) {
        let _ = writeln!(
            out,
            "\nRecorded from {} to {}. A month is thirty days at the rate of the time behind it, a site's first to last call, if that is an hour or more.",
            clock::minute(first),
            clock::minute(last)
        );
    }
    let _ = writeln!(out, "Worth waiting for: fifty examples of each label, as a rule of thumb.");
    match sites.iter().find(|site| site.is_task) {
        Some(site) => {
            let name = name(site);
            let _ = writeln!(
                out,
                "Next: sizewise discover --show {name}, then sizewise init TASK --from-site {name}"
            );
        }
        None => {
            let _ = writeln!(
                out,
                "No site is a task yet: nothing is answered again and again with the same few labels."
            );
        }
    }
}

fn show(site: &Site, screen: &Screen) {
    #[derive(Serialize)]
    struct Shown<'s> {
        site: Listed<'s>,
        prompt: String,
        samples: Vec<Sample>,
    }
    let samples = samples(site);
    let listed = Listed { site, micro_usd_per_month: per_month(site).map(|month| month.0) };
    let shown = Shown { site: listed, prompt: redact(&site.prompt()), samples };
    screen.result("discover", &shown, || {
        let mut out = String::new();
        let _ = write_site(&mut out, site, (&shown.prompt, &shown.samples), screen);
        out
    });
}

/// A few calls, each answered otherwise where that can be.
fn samples(site: &Site) -> Vec<Sample> {
    let mut seen = BTreeSet::new();
    let (first, again): (Vec<_>, Vec<_>) =
        site.rows.iter().zip(&site.labels).partition(|(_, labels)| seen.insert(*labels));
    let sample = |(call, labels): (&Call, &Vec<Option<String>>)| Sample {
        text: redact(&call.text),
        labels: labels.clone(),
    };
    first.into_iter().chain(again).take(SAMPLES).map(sample).collect()
}

fn write_site(
    out: &mut String,
    site: &Site,
    (prompt, samples): (&str, &[Sample]),
    screen: &Screen,
) -> std::fmt::Result {
    let facts = &site.facts;
    writeln!(out, "{} asks {} ({})", screen.bold(name(site)), facts.model.escape_default(), facts.protocol)?;
    let since = clock::minute(site.first_at);
    writeln!(
        out,
        "  {} calls since {since}, {} so far{}; median {}",
        site.calls,
        cost(site),
        per_month(site).map_or_else(String::new, |month| format!(
            ", {} a month at the rate of {}",
            money(month),
            span(site)
        )),
        clock::duration(site.median_latency_us as f64 / 1e6)
    )?;
    writeln!(
        out,
        "  {} are kept, {} different texts, {} to learn from",
        site.kept, site.distinct, site.examples
    )?;
    if site.repeats.texts > 0 {
        let (alike, texts) = (site.repeats.alike, site.repeats.texts);
        writeln!(out, "  {texts} texts came more than once; {alike} of them were always answered alike")?;
    }
    writeln!(out, "\n{}", screen.bold("Prompt"))?;
    let prompt = if prompt.is_empty() { "(none: the text alone)" } else { prompt };
    for line in prompt.lines().take(40) {
        writeln!(out, "{}", format!("  {}", shortened(line, 160)).trim_end())?;
    }
    for asked in &site.questions {
        let labels = asked.kind.labels();
        writeln!(out, "\n{} ({})", screen.bold(&shortened(&asked.name, 80)), asked.kind.name())?;
        let total: usize = labels.iter().map(|(_, count)| count).sum();
        let mut table =
            Table::new(&[("label", Align::Left), ("calls", Align::Right), ("share", Align::Right)]);
        for (label, count) in labels.iter().take(LABELS) {
            let share = percent(*count as f64 / total.max(1) as f64);
            table.row([shortened(label, 60), count.to_string(), share]);
        }
        if !labels.is_empty() {
            write!(out, "{}", table.render())?;
        }
        if labels.len() > LABELS {
            writeln!(out, "  … and {} more", labels.len() - LABELS)?;
        }
        if asked.other > 0 {
            writeln!(out, "  {} answers are none of these", asked.other)?;
        }
    }
    writeln!(out, "\n{}", screen.bold("Some of its texts"))?;
    for sample in samples {
        let labels: Vec<&str> = sample.labels.iter().map(|label| label.as_deref().unwrap_or("–")).collect();
        writeln!(out, "  {}  →  {}", shortened(&sample.text, 90), shortened(&labels.join(", "), 60))?;
    }
    match site.is_task {
        true => writeln!(
            out,
            "\nAbout {} more examples are worth waiting for. Next: sizewise init TASK --from-site {}",
            site.worth_waiting_for,
            name(site)
        ),
        false => {
            writeln!(out, "\nNo task yet: nothing is answered again and again with the same few labels.")
        }
    }
}

fn name(site: &Site) -> &str {
    site.facts.name.as_deref().unwrap_or(&site.id)
}

/// What is answered, in a few words.
fn answered(questions: &[Asked]) -> String {
    let one = |asked: &Asked| match &asked.kind {
        Kind::Choice { labels } => format!("{}: choice of {}", asked.name, labels.len()),
        Kind::Score { labels } => format!("{}: score of {}", asked.name, labels.len()),
        Kind::Predicate { .. } => format!("{}: yes or no", asked.name),
        Kind::Constant { .. } => format!("{}: always the same", asked.name),
        Kind::Free => format!("{}: free", asked.name),
    };
    // What can be asked comes first.
    let (asked, other): (Vec<&Asked>, Vec<&Asked>) =
        questions.iter().partition(|asked| asked.kind.is_question());
    asked.into_iter().chain(other).map(one).collect::<Vec<_>>().join(", ")
}

fn cost(site: &Site) -> String {
    let guessed = if site.estimated > 0.0 { "~" } else { "" };
    format!("{guessed}{}", money(site.micro_usd))
}

/// An amount with cents, or with more where it is less than a dollar.
fn money(amount: MicroUsd) -> String {
    let dollars = amount.0 as f64 / 1e6;
    if amount.0 >= 1_000_000 { format!("${dollars:.2}") } else { format!("${dollars:.4}") }
}

/// The time from the first call to the latest.
fn span(site: &Site) -> String {
    match (site.last_at.0 - site.first_at.0) as f64 / 3_600_000.0 {
        hours if hours < 48.0 => format!("{hours:.1} h"),
        hours => format!("{:.0} days", hours / 24.0),
    }
}

fn per_month(site: &Site) -> Option<MicroUsd> {
    let span = site.last_at.0 - site.first_at.0;
    let month = u128::from(site.micro_usd.0) * MONTH_MS as u128 / u128::try_from(span).ok()?.max(1);
    (span >= LEAST_SPAN_MS).then(|| MicroUsd(u64::try_from(month).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sizewise_learn::sites::{Facts, Fixed, Said};

    fn site(span_ms: i64, micro_usd: u64) -> Site {
        let call = |row: i64| Call {
            text: format!("text {row} of a@b.example"),
            said: Said { text: Some(["yes", "no"][row as usize % 2].into()), calls: Vec::new() },
            asked: "m".into(),
            model: "m".into(),
            request: None,
            latency_us: 1_000,
            micro_usd: 1,
            is_estimate: false,
            at: UnixMillis(row),
        };
        let facts = Facts { name: Some("urgent".into()), fixed: Fixed::default(), ..Facts::default() };
        let place = Place {
            id: "abcdef012345".into(),
            facts,
            calls: 20,
            micro_usd: MicroUsd(micro_usd),
            first_at: UnixMillis(0),
            last_at: UnixMillis(span_ms),
            kept: (0..20).map(call).collect(),
        };
        discover(vec![place]).remove(0)
    }

    #[test]
    fn a_month_is_told_from_an_hour_on() {
        assert_eq!(per_month(&site(86_400_000, 1_000_000)), Some(MicroUsd(30_000_000)));
        assert_eq!(per_month(&site(60_000, 1_000_000)), None);
        assert_eq!(money(MicroUsd(30_000_000)), "$30.00");
        assert_eq!(money(MicroUsd(1_234)), "$0.0012");
    }

    #[test]
    fn a_site_is_found_by_its_name_or_the_beginning_of_its_id() {
        for named in ["urgent", "abcdef012345", "abcd"] {
            assert_eq!(find(vec![site(1, 1)], named).unwrap().id, "abcdef012345");
        }
        let hint = |named: &str| {
            let error = find(vec![site(1, 1)], named).unwrap_err();
            sizewise_contract::Diagnose::hint(&error).unwrap()
        };
        assert_eq!(hint("urgemt"), "did you mean `urgent`?");
        assert!(hint("a").contains("lists them"));
    }
}
