//! What is a text made of, while it is being made up?
//!
//! Pieces that know what they are. Only a finished draft has offsets, so that changes of case and slips of the pen cannot move them.

use super::groups::Alike;
use crate::fit::Random;
use sizewise_models::tagger::Entity;
use std::ops::Range;

/// What a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Entity(Entity),
    /// What rules find, by the name that they give it.
    Known(&'static str),
}

#[derive(Debug, Clone)]
struct Piece {
    text: String,
    mark: Option<Mark>,
    strange: bool,
    /// Belongs to the entity before.
    goes_on: bool,
}

/// A text in the making.
#[derive(Debug, Default, Clone)]
pub(super) struct Draft {
    pieces: Vec<Piece>,
}

/// A text with what is in it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Made {
    /// The text.
    pub text: String,
    /// What the tagger should find, in order, in bytes.
    pub entities: Vec<(Range<usize>, Entity)>,
    /// What rules find before it.
    pub known: Vec<(Range<usize>, &'static str)>,
    /// Words that the tagger is to take for unknown ones.
    pub strange: Vec<Range<usize>>,
}

impl Draft {
    pub(super) fn plain(&mut self, text: &str) {
        self.put(text, None, false);
    }

    pub(super) fn entity(&mut self, text: &str, entity: Entity) {
        self.put(text, Some(Mark::Entity(entity)), false);
    }

    /// An entity whose words are to be taken for unknown ones.
    pub(super) fn stranger(&mut self, text: &str, entity: Entity, strange: bool) {
        self.put(text, Some(Mark::Entity(entity)), strange);
    }

    pub(super) fn known(&mut self, text: &str, name: &'static str) {
        self.put(text, Some(Mark::Known(name)), false);
    }

    fn put(&mut self, text: &str, mark: Option<Mark>, strange: bool) {
        if !text.is_empty() {
            self.pieces.push(Piece { text: text.to_owned(), mark, strange, goes_on: false });
        }
    }

    pub(super) fn append(&mut self, other: Self) {
        self.pieces.extend(other.pieces);
    }

    /// Puts all of another draft down as one entity.
    pub(super) fn whole(&mut self, other: Self, entity: Entity) {
        let mark = Some(Mark::Entity(entity));
        self.pieces.extend(other.pieces.into_iter().map(|piece| Piece { mark, goes_on: true, ..piece }));
        if let Some(first) =
            self.pieces.iter_mut().rev().take_while(|piece| piece.goes_on && piece.mark == mark).last()
        {
            first.goes_on = false;
        }
    }

    /// Puts words in the place of words that are used alike, where nothing is marked.
    pub(super) fn vary(&mut self, alike: &Alike, random: &mut Random) {
        for piece in self.pieces.iter_mut().filter(|piece| piece.mark.is_none()) {
            piece.text = alike.varied(&piece.text, random);
        }
    }

    /// Writes as people do: now and then all in one case, names without capitals, letters swapped.
    pub(super) fn slip(&mut self, random: &mut Random) {
        let chance = random.below(100);
        for piece in &mut self.pieces {
            let known = matches!(piece.mark, Some(Mark::Known(_)));
            match (chance, piece.mark) {
                (0..10, _) if !known => piece.text = piece.text.to_lowercase(),
                (10..12, _) if !known => piece.text = piece.text.to_uppercase(),
                (12, Some(Mark::Entity(_))) => piece.text = piece.text.to_lowercase(),
                (15..20, None) => piece.text = swapped(&piece.text, random),
                (20..22, None) => piece.text = piece.text.replace([',', '.'], ""),
                (22..25, Some(Mark::Entity(Entity::Location))) => piece.text = piece.text.to_uppercase(),
                _ => (),
            }
        }
    }

    pub(super) fn finish(self) -> Made {
        let mut made = Made::default();
        for piece in self.pieces {
            let span = made.text.len()..made.text.len() + piece.text.len();
            // A month beside its year is one date.
            let dates = |made: &mut Made| {
                let last = made.entities.last_mut()?;
                if piece.goes_on {
                    last.0.end = span.end;
                    return Some(());
                }
                let beside = last.1 == Entity::DateTime && made.text.get(last.0.end..) == Some(" ");
                (beside && piece.mark == Some(Mark::Entity(Entity::DateTime))).then(|| last.0.end = span.end)
            };
            if dates(&mut made).is_none() {
                match piece.mark {
                    Some(Mark::Entity(entity)) => made.entities.push((span.clone(), entity)),
                    Some(Mark::Known(name)) => made.known.push((span.clone(), name)),
                    None => (),
                }
            }
            if piece.strange {
                made.strange.push(span);
            }
            made.text.push_str(&piece.text);
        }
        made
    }
}

/// Two neighbouring letters of one word change places.
fn swapped(text: &str, random: &mut Random) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    let at = random.below(letters.len().max(1));
    if let [.., _] = letters.as_slice()
        && let (Some(a), Some(b)) = (letters.get(at).copied(), letters.get(at + 1).copied())
        && a.is_lowercase()
        && b.is_lowercase()
    {
        letters.swap(at, at + 1);
    }
    letters.into_iter().collect()
}
