//! Which files make the page?
//!
//! They are part of the program: nothing is built, and nothing is fetched from elsewhere.

use super::super::reply::{Kind, Reply};
use crate::wire::WireError;
use sizewise_contract::Code;

macro_rules! files {
    ($($name:literal $kind:ident),* $(,)?) => {
        /// Name, kind and text of every file.
        const FILES: &[(&str, Kind, &str)] = &[$(($name, Kind::$kind, include_str!(concat!("page/", $name)))),*];
    };
}

files! {
    "index.html" Html,
    "icon.svg" Image,
    "console.css" Style,
    "print.css" Style,
    "admin.js" Script,
    "agreement.js" Script,
    "api.js" Script,
    "app.js" Script,
    "audit.js" Script,
    "charts.js" Script,
    "curve.js" Script,
    "discover.js" Script,
    "dom.js" Script,
    "errors.js" Script,
    "evidence.js" Script,
    "format.js" Script,
    "home.js" Script,
    "keyboard.js" Script,
    "label.js" Script,
    "login.js" Script,
    "mix.js" Script,
    "monitor.js" Script,
    "releases.js" Script,
    "renewals.js" Script,
    "savings.js" Script,
    "table.js" Script,
    "task.js" Script,
    "theme.js" Script,
    "trial.js" Script,
    "try.js" Script,
}

/// A file of the page.
///
/// # Errors
/// Fails when there is none of that name.
pub(super) fn named(name: &str) -> Result<Reply, WireError> {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, text)) => Ok(Reply::new(*kind, *text)),
        None => Err(WireError::new(Code::UnknownRoute, None, "the console has no such file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_names_another_origin_or_makes_markup_of_a_string() {
        for (name, _, text) in FILES {
            let plain = text.replace("http://www.w3.org/2000/svg", "");
            for word in
                ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"]
            {
                assert!(!plain.contains(word), "{name} holds {word}");
            }
            assert!(!text.contains("eval(") && !text.contains("<script>"), "{name}");
        }
    }

    #[test]
    fn every_file_that_another_one_names_is_there() {
        let named = |text: &str| -> Vec<String> {
            let quoted = text.split(['"', '\'']);
            let is_file = |part: &&str| part.starts_with("./") || part.starts_with("/console/");
            quoted
                .filter(is_file)
                .filter(|part| !part.contains("/api/") && part.contains('.'))
                .map(|part| part.rsplit('/').next().unwrap_or_default().to_owned())
                .filter(|part| !part.is_empty())
                .collect()
        };
        for (name, _, text) in FILES {
            for other in named(text) {
                assert!(FILES.iter().any(|(known, ..)| *known == other), "{name} names {other}");
            }
        }
    }
}
