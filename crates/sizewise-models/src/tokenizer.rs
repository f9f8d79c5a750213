//! Into which pieces does an encoder cut a text?
//!
//! Its `tokenizer.json` chooses: WordPiece (BERT), byte-level BPE (RoBERTa, ModernBERT) or Unigram (XLM-RoBERTa, multilingual
//! E5). The last two pass the same steps:
//!
//! ```text
//!   text ─► added ─► normalizer ─► added ─► byte_level ─► bpe     ─► ids,  frame around them
//!                                        └► metaspace  ─► unigram ─┘
//! ```
//!
//! Ids equal those of the public `tokenizers` library where that reads special tokens as text. One difference is on purpose:
//! a Unigram vocabulary holds its special tokens as pieces, and there they match no text here, whatever a user writes. And
//! one is of age: characters that Unicode has added since 2018 have the marks and normal forms of today here, and none there.

mod added;
mod bpe;
mod byte_level;
mod charsmap;
mod frame;
mod metaspace;
mod normalizer;
mod section;
mod trie;
mod unigram;

use crate::{
    error::{Error, Result},
    memory::InMemory,
    wordpiece::WordPiece,
};
use added::{AddedJson, AddedTokens, Part};
use bpe::Bpe;
use frame::Frame;
use normalizer::Normalizer;
use section::Section;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use sizewise_contract::limits;
use unigram::Unigram;

/// A tokenizer as its `tokenizer.json` describes it.
#[derive(Debug)]
pub struct Tokenizer(Kind);

#[derive(Debug)]
enum Kind {
    WordPiece(WordPiece),
    Subword(Box<Subword>),
}

/// What byte-level BPE and Unigram share.
#[derive(Debug)]
struct Subword {
    added: AddedTokens,
    normalizer: Normalizer,
    model: Model,
    frame: Frame,
    /// One past the largest id.
    ids: usize,
}

#[derive(Debug)]
enum Model {
    Bpe(Bpe),
    Unigram(Unigram),
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// Fails when the file is damaged, larger than the limits, or asks for what this build does not run; the message names
    /// the key.
    pub fn from_tokenizer_json(file: &str, bytes: &[u8]) -> Result<Self> {
        let damaged = |problem: String| Error::File { file: file.to_owned(), problem };
        if bytes.len() > limits::TOKENIZER_BYTES {
            let most = limits::TOKENIZER_BYTES;
            return Err(damaged(format!("{} bytes; at most {most} are read", bytes.len())));
        }
        let json: TokenizerJson<'_> =
            serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        let kind: KindJson =
            serde_json::from_str(json.model.get()).map_err(|error| damaged(format!("model: {error}")))?;
        Ok(Self(match kind.kind.as_deref() {
            // Older files leave it out.
            None | Some("WordPiece") => Kind::WordPiece(WordPiece::from_tokenizer_json(file, bytes)?),
            Some("BPE" | "Unigram") => Kind::Subword(Box::new(Subword::parse(file, &json, &kind)?)),
            Some(other) => {
                let other: String = other.chars().take(64).collect();
                let problem = format!("model.type is `{other}`; this build runs WordPiece, BPE and Unigram");
                return Err(Error::Unsupported { file: file.to_owned(), problem });
            }
        }))
    }

    /// The id that begins every input: `[CLS]` or `<s>`.
    #[must_use]
    pub fn cls(&self) -> u32 {
        match &self.0 {
            Kind::WordPiece(tokenizer) => tokenizer.cls(),
            Kind::Subword(tokenizer) => tokenizer.frame.begin,
        }
    }

    /// The id that ends every input: `[SEP]` or `</s>`.
    #[must_use]
    pub fn sep(&self) -> u32 {
        match &self.0 {
            Kind::WordPiece(tokenizer) => tokenizer.sep(),
            Kind::Subword(tokenizer) => tokenizer.frame.end,
        }
    }

    /// The id of what cannot be cut into known pieces; none where nothing is unknown.
    #[must_use]
    pub fn unknown(&self) -> Option<u32> {
        match &self.0 {
            Kind::WordPiece(tokenizer) => Some(tokenizer.unknown()),
            Kind::Subword(tokenizer) => match &tokenizer.model {
                Model::Bpe(bpe) => bpe.unknown(),
                Model::Unigram(unigram) => Some(unigram.unknown()),
            },
        }
    }

    /// One past the largest id.
    #[must_use]
    pub fn ids(&self) -> usize {
        match &self.0 {
            Kind::WordPiece(tokenizer) => tokenizer.ids(),
            Kind::Subword(tokenizer) => tokenizer.ids,
        }
    }

    /// Appends the ids of a text, without the special ones around it.
    ///
    /// **Bounds.** Time and memory grow with the length of the text, at most by its logarithm faster.
    pub fn encode_into(&self, text: &str, ids: &mut Vec<u32>) {
        match &self.0 {
            Kind::WordPiece(tokenizer) => tokenizer.encode_into(text, ids),
            Kind::Subword(tokenizer) => tokenizer.encode_into(text, ids),
        }
    }
}

impl Subword {
    fn parse(file: &str, json: &TokenizerJson<'_>, kind: &KindJson) -> Result<Self> {
        let normalizer = Normalizer::parse(Section::of(file, "normalizer", &json.normalizer)?.as_ref())?;
        let pre_tokenizer = Section::of(file, "pre_tokenizer", &json.pre_tokenizer)?;
        let Some(post_processor) = Section::of(file, "post_processor", &json.post_processor)? else {
            let problem = "post_processor is missing: nothing says what begins and ends a text".to_owned();
            return Err(Error::Unsupported { file: file.to_owned(), problem });
        };
        let frame = Frame::parse(&post_processor)?;
        let special = added::special(&json.added_tokens);
        let (model, ids) = if kind.kind.as_deref() == Some("BPE") {
            let (bpe, ids) = Bpe::parse(file, json.model.get(), pre_tokenizer.as_ref(), &special)?;
            (Model::Bpe(bpe), ids)
        } else {
            let (unigram, ids) = Unigram::parse(file, json.model.get(), pre_tokenizer.as_ref(), &special)?;
            (Model::Unigram(unigram), ids)
        };
        let ids = ids.max(added::ids(&json.added_tokens));
        if let Some(id) = [frame.begin, frame.end].into_iter().find(|id| *id as usize >= ids) {
            let problem = format!(
                "post_processor puts the id {id} around a text, and the largest id is {}",
                ids.max(1) - 1
            );
            return Err(Error::File { file: file.to_owned(), problem });
        }
        let added = AddedTokens::new(file, &json.added_tokens, &normalizer)?;
        Ok(Self { added, normalizer, model, frame, ids })
    }

    fn encode_into(&self, text: &str, ids: &mut Vec<u32>) {
        for part in self.added.parts_raw(text) {
            match part {
                Part::Token(id) => ids.push(id),
                Part::Text(text) => {
                    let normal = self.normalizer.apply(text);
                    for part in self.added.parts_normalized(&normal) {
                        match (part, &self.model) {
                            (Part::Token(id), _) => ids.push(id),
                            (Part::Text(text), Model::Bpe(bpe)) => bpe.encode_into(text, ids),
                            (Part::Text(text), Model::Unigram(unigram)) => unigram.encode_into(text, ids),
                        }
                    }
                }
            }
        }
    }
}

/// The parts of a `tokenizer.json` that decide ids. Padding and truncation belong to a caller, the decoder to generators.
#[derive(Deserialize)]
struct TokenizerJson<'a> {
    #[serde(default)]
    added_tokens: Vec<AddedJson>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(borrow)]
    model: &'a RawValue,
}

#[derive(Deserialize)]
struct KindJson {
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl InMemory for Tokenizer {
    fn held_bytes(&self) -> usize {
        match &self.0 {
            Kind::WordPiece(pieces) => pieces.held_bytes(),
            Kind::Subword(subword) => {
                let model = match &subword.model {
                    Model::Bpe(bpe) => bpe.held_bytes(),
                    Model::Unigram(unigram) => unigram.held_bytes(),
                };
                size_of::<Subword>() + subword.added.held_bytes() + subword.normalizer.held_bytes() + model
            }
        }
    }
}
