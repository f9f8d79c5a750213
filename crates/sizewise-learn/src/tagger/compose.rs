//! How does a text come out of templates?
//!
//! A template is a line with `{slots}` and `[one|of|several]`; `\n` ends a line of the text. All of them were written for this project.

use super::{
    draft::{Draft, Made},
    fill::Filler,
    groups::Alike,
};

/// The templates, a file for every genre.
const TEMPLATES: [&str; 15] = [
    include_str!("../../tagger/templates/support.txt"),
    include_str!("../../tagger/templates/letters.txt"),
    include_str!("../../tagger/templates/bank.txt"),
    include_str!("../../tagger/templates/medical.txt"),
    include_str!("../../tagger/templates/work.txt"),
    include_str!("../../tagger/templates/travel.txt"),
    include_str!("../../tagger/templates/legal.txt"),
    include_str!("../../tagger/templates/news.txt"),
    include_str!("../../tagger/templates/chat.txt"),
    include_str!("../../tagger/templates/forms.txt"),
    include_str!("../../tagger/templates/everyday.txt"),
    include_str!("../../tagger/templates/everyday.txt"),
    include_str!("../../tagger/templates/prose.txt"),
    include_str!("../../tagger/templates/prose.txt"),
    include_str!("../../tagger/templates/other.txt"),
];
const NEGATIVES: &str = include_str!("../../tagger/templates/negatives.txt");

/// Which templates are used: one in six is kept back for development.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Those to learn from.
    Learn,
    /// Those kept back.
    Develop,
    /// All of them.
    Whole,
}

/// Makes up texts, without end.
pub struct Composer<'a> {
    filler: Filler,
    genres: Vec<Vec<&'static str>>,
    without: Vec<&'static str>,
    /// Texts without personal data that somebody wrote.
    written: &'a [String],
    alike: &'a Alike,
}

impl<'a> Composer<'a> {
    /// Begins with a seed: the same texts come in the same order.
    #[must_use]
    pub fn new(part: Part, seed: u64, alike: &'a Alike, written: &'a [String]) -> Self {
        let belongs = |(place, line): (usize, &'static str)| {
            let kept_back = place % 6 == 3;
            let belongs = part == Part::Whole || kept_back == (part == Part::Develop);
            (belongs && !line.is_empty()).then_some(line)
        };
        Self {
            filler: Filler::new(seed),
            genres: TEMPLATES
                .iter()
                .map(|text| text.lines().enumerate().filter_map(belongs).collect())
                .collect(),
            without: NEGATIVES.lines().enumerate().filter_map(belongs).collect(),
            written,
            alike,
        }
    }

    /// The next text.
    pub fn text(&mut self) -> Made {
        let genre = self.filler.random.below(self.genres.len());
        let count = match self.filler.random.below(20) {
            0..12 => 1,
            12..17 => 2,
            _ => 3,
        };
        let between = self.filler.random.of(" | |\n|\n\n").to_owned();
        let mut draft = Draft::default();
        for part in 0..count {
            if part > 0 {
                draft.plain(&between);
            }
            match self.filler.random.below(100) {
                0..12 => self.template(|composer| &composer.without, &mut draft),
                12..20 if !self.written.is_empty() => {
                    let text = self.filler.random.below(self.written.len());
                    draft.plain(self.written.get(text).map_or("", String::as_str));
                }
                20..30 => {
                    let other = self.filler.random.below(self.genres.len());
                    self.template(|composer| &composer.genres[other], &mut draft);
                }
                _ => self.template(|composer| &composer.genres[genre], &mut draft),
            }
        }
        draft.vary(self.alike, &mut self.filler.random);
        draft.slip(&mut self.filler.random);
        draft.finish()
    }

    fn template(&mut self, of: impl Fn(&Self) -> &Vec<&'static str>, draft: &mut Draft) {
        // Long genres have no more to say than short ones: every template of a genre is as likely as another.
        let count = of(self).len();
        let which = self.filler.random.below(count.max(1));
        let Some(template) = of(self).get(which).copied() else { return };
        let mut filled = Draft::default();
        self.expand(&template.replace("\\n", "\n").replace("\\t", "\t"), &mut filled);
        draft.append(filled);
    }

    fn expand(&mut self, template: &str, draft: &mut Draft) {
        let mut rest = template;
        while let Some(at) = rest.find(['{', '[']) {
            let (before, from) = rest.split_at(at);
            draft.plain(before);
            let (open, close) = if from.starts_with('{') { ('{', '}') } else { ('[', ']') };
            let Some(end) = from.find(close) else { break };
            let inside = from.get(1..end).unwrap_or_default();
            rest = from.get(end + 1..).unwrap_or_default();
            if open == '[' && inside.contains('|') {
                let chosen = self.filler.random.of(inside).to_owned();
                self.expand(&chosen, draft);
            } else if open == '[' && inside.starts_with(' ') {
                // Said or left out.
                if self.filler.random.below(2) == 0 {
                    self.expand(inside, draft);
                }
            } else if open == '{' && inside == "heading" {
                let heading = self.alike.heading(&mut self.filler.random);
                draft.plain(&heading);
            } else if open == '[' || !self.filler.fill(inside, draft) {
                draft.plain(open.encode_utf8(&mut [0; 4]));
                self.expand(inside, draft);
                draft.plain(close.encode_utf8(&mut [0; 4]));
            }
        }
        draft.plain(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_texts_and_spans_are_what_they_say() {
        let written = vec!["nothing to see".to_owned()];
        let alike = Alike::new().unwrap();
        let mut composers = [7, 7].map(|seed| Composer::new(Part::Whole, seed, &alike, &written));
        for _ in 0..2_000 {
            let [a, b] = composers.each_mut().map(Composer::text);
            assert_eq!(a, b);
            let mut after = 0;
            for (span, entity) in &a.entities {
                assert!(
                    span.start >= after && !a.text[span.clone()].trim().is_empty(),
                    "{entity:?} in {a:?}"
                );
                after = span.end;
            }
        }
    }

    #[test]
    fn every_slot_is_one_that_can_be_filled() {
        let mut filler = Filler::new(1);
        for template in TEMPLATES.iter().chain([&NEGATIVES]).flat_map(|text| text.lines()) {
            for slot in template.split('{').skip(1).filter_map(|part| part.split('}').next()) {
                let other = slot.contains('"') || slot == "heading";
                assert!(other || filler.fill(slot, &mut Draft::default()), "{slot} in {template}");
            }
        }
    }
}
