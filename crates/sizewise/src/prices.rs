//! What do well-known providers ask for their models, where the settings do not say?
//!
//! The table ships with the program and every price in it is dated. It is asked only for a provider's own host: the same model behind
//! another address may cost something else. A provider whose programs may choose among several models is taken to cost what the
//! dearest of them does, so that a budget is never overspent.

use serde::{Deserialize, Serialize};
use sizewise_contract::units::{Dollars, MicroUsd, Prices};
use sizewise_models::remote::ProviderSettings;
use std::{fmt::Write as _, sync::LazyLock};

/// How a date is told that is not the owner's.
const BY_TABLE: &str = ", by the program's own table";

static TABLE: LazyLock<Option<Table>> = LazyLock::new(|| toml::from_str(include_str!("prices.toml")).ok());

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    provider: Vec<Provider>,
}

/// A provider and what its models cost.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Provider {
    name: String,
    host: String,
    /// The day on which these prices were read, as 2026-06-21.
    as_of: String,
    /// Where the provider says so.
    source: String,
    models: Vec<Model>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    name: String,
    /// Dollars for a million tokens that are read.
    r#in: Dollars,
    /// Dollars for a million tokens that are written.
    out: Dollars,
}

/// Prices with the day from which they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dated {
    pub(crate) prices: Prices,
    pub(crate) as_of: &'static str,
}

/// Every provider of the table.
pub(crate) fn all() -> &'static [Provider] {
    TABLE.as_ref().map_or(&[], |table| &table.provider)
}

/// What a model costs at an address, as `https://HOST/v1`; none where the table does not know.
pub(crate) fn of(url: &str, model: &str) -> Option<Dated> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', ':', '?']).next()?;
    let is_here = |one: &&Provider| scheme == "https" && one.host.eq_ignore_ascii_case(host);
    let provider = all().iter().find(is_here)?;
    let known = |one: &&Model| model.strip_prefix(one.name.as_str()).is_some_and(is_build);
    let model = provider.models.iter().find(known)?;
    Some(Dated { prices: Prices { read: model.r#in.0, written: model.out.0 }, as_of: &provider.as_of })
}

/// Whether what follows a model's name is nothing or the date of a build: another word makes it another model.
fn is_build(rest: &str) -> bool {
    let dated = |rest: &str| rest.len() >= 8 && rest.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    rest.is_empty() || rest.strip_prefix('-').is_some_and(dated)
}

/// Gives a provider whose settings name no price the table's: of each kind of token the dearest among its models. Where the
/// table does not know one of them, none are given.
pub(crate) fn complete(settings: &mut ProviderSettings) {
    if settings.price_in.is_some() || settings.price_out.is_some() {
        return;
    }
    let mut dearest: Option<Dated> = None;
    for model in std::iter::once(&settings.model).chain(&settings.models) {
        let Some(next) = of(&settings.url, model) else { return };
        let most = |so_far: MicroUsd, next: MicroUsd| so_far.max(next);
        dearest = Some(dearest.map_or(next, |so_far| Dated {
            prices: Prices {
                read: most(so_far.prices.read, next.prices.read),
                written: most(so_far.prices.written, next.prices.written),
            },
            ..next
        }));
    }
    if let Some(Dated { prices, as_of }) = dearest {
        settings.price_in = Some(Dollars(prices.read));
        settings.price_out = Some(Dollars(prices.written));
        settings.priced_on = Some(format!("{as_of}{BY_TABLE}"));
    }
}

/// The day of the table's prices, where a provider's are the table's.
pub(crate) fn date(settings: &ProviderSettings) -> Option<&str> {
    settings.priced_on.as_deref()?.strip_suffix(BY_TABLE)
}

/// The table as text.
pub(crate) fn text() -> String {
    use crate::table::{Align, Table};
    let mut text = String::from(
        "Dollars for a million tokens; price_in and price_out under [provider.NAME] go before these.\n",
    );
    for one in all() {
        let _ = writeln!(text, "\n{} ({}), as of {}: {}", one.name, one.host, one.as_of, one.source);
        let mut table =
            Table::new(&[("model", Align::Left), ("read", Align::Right), ("written", Align::Right)]);
        let amount = |dollars: Dollars| format!("{:.2}", dollars.0.0 as f64 / 1e6);
        for model in &one.models {
            table.row([model.name.clone(), amount(model.r#in), amount(model.out)]);
        }
        text.push_str(&table.render());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENAI: &str = "https://api.openai.com/v1";

    fn settings(url: &str, models: &[&str]) -> ProviderSettings {
        let mut settings: ProviderSettings =
            toml::from_str(&format!("url = \"{url}\"\nmodel = \"{}\"", models[0])).unwrap();
        settings.models = models[1..].iter().map(|&model| model.to_owned()).collect();
        complete(&mut settings);
        settings
    }

    #[test]
    fn the_table_is_readable_and_every_price_is_dated() {
        assert!(all().len() >= 3);
        for one in all() {
            assert!(one.as_of.len() == 10 && is_build(&format!("-{}", one.as_of)), "{}", one.as_of);
            assert!(one.source.starts_with("https://") && !one.models.is_empty());
            assert!(one.models.iter().all(|model| model.r#in.0.0 > 0 && model.out.0 >= MicroUsd(0)));
        }
    }

    #[test]
    fn a_model_is_priced_at_its_own_host_and_dated_builds_are_the_same_model() {
        let mini = of(OPENAI, "gpt-4o-mini").unwrap();
        assert_eq!(mini.prices, Prices { read: MicroUsd(150_000), written: MicroUsd(600_000) });
        assert_eq!(of(OPENAI, "gpt-4o-mini-2024-07-18"), Some(mini));
        assert_eq!(of("https://API.openai.com:443/v1", "gpt-4o-mini"), Some(mini));
        for (url, model) in [
            (OPENAI, "gpt-4o-mini-audio-preview"),
            (OPENAI, "gpt-4"),
            ("http://api.openai.com/v1", "gpt-4o-mini"),
            ("https://api.openai.com.example/v1", "gpt-4o-mini"),
            ("https://example.com/api.openai.com", "gpt-4o-mini"),
            ("api.openai.com", "gpt-4o-mini"),
        ] {
            assert_eq!(of(url, model), None, "{url} {model}");
        }
    }

    #[test]
    fn who_may_call_several_models_is_taken_to_call_the_dearest() {
        let both = settings(OPENAI, &["gpt-4o-mini", "gpt-4.1"]);
        assert_eq!(both.price_in, Some(Dollars(MicroUsd(2_000_000))));
        assert_eq!(both.price_out, Some(Dollars(MicroUsd(8_000_000))));
        assert_eq!(date(&both), Some("2026-06-21"));
        assert_eq!(settings(OPENAI, &["gpt-4o-mini", "gpt-unheard-of"]).price_in, None);
        let mut own: ProviderSettings =
            toml::from_str(&format!("url = \"{OPENAI}\"\nmodel = \"gpt-4o\"\nprice_in = 1\nprice_out = 2"))
                .unwrap();
        complete(&mut own);
        assert_eq!((own.price_in, own.priced_on), (Some(Dollars(MicroUsd(1_000_000))), None));
    }
}
