//! Which rows of the word embeddings does a task need?
//!
//! A WordPiece vocabulary is trimmed to the pieces that the task's texts are cut into, the special ones, every piece of one or
//! two letters, and the commonest of the rest: such vocabularies are sorted by how common a piece was where they were made. A word
//! whose piece is gone falls into smaller ones, as any rare word does.

use super::prune::{copied, parse, set};
use crate::error::{Error, Result};
use serde_json::Value;
use sizewise_models::{
    encoder::EncoderFiles,
    tensors::{self, Tensors},
};
use std::collections::{BTreeMap, BTreeSet};

/// Of the pieces that no text of the task holds, the commonest so many stay.
const COMMON: usize = 4_096;
/// Pieces of at most so many letters stay, so that every word of known letters can be cut.
const SHORT: usize = 2;

/// The files with a smaller vocabulary; none where the tokenizer is no WordPiece. `ids` are the task's texts.
pub(crate) fn trim(files: &EncoderFiles<&[u8]>, ids: &[Vec<u32>]) -> Result<Option<EncoderFiles<Vec<u8>>>> {
    let mut tokenizer = parse(files.tokenizer)?;
    let model = tokenizer.get("model").and_then(Value::as_object);
    let kind = model.and_then(|model| model.get("type")).and_then(Value::as_str).unwrap_or("WordPiece");
    let Some(pieces) = model.and_then(|model| model.get("vocab")).and_then(Value::as_object) else {
        return Ok(None);
    };
    if kind != "WordPiece" {
        return Ok(None);
    }
    let pieces: BTreeMap<u32, String> = pieces
        .iter()
        .filter_map(|(piece, id)| Some((u32::try_from(id.as_u64()?).ok()?, piece.clone())))
        .collect();
    let kept = kept(&pieces, &special(&tokenizer), ids);
    renumber(&mut tokenizer, &kept)?;
    let mut config = parse(files.config)?;
    set(&mut config, &["vocab_size"], kept.len());
    let new_id = |old: usize| kept.iter().position(|id| *id as usize == old);
    let padding = config.get("pad_token_id").and_then(Value::as_u64).and_then(|old| new_id(old as usize));
    if let Some(padding) = padding {
        set(&mut config, &["pad_token_id"], padding);
    }
    let json = |json: &serde_json::Map<String, Value>| {
        serde_json::to_vec(json).map_err(|_| Error::Internal("a tokenizer has a JSON form"))
    };
    Ok(Some(EncoderFiles {
        config: json(&config)?,
        tokenizer: json(&tokenizer)?,
        pooling: files.pooling.map(<[u8]>::to_vec),
        prompts: files.prompts.map(<[u8]>::to_vec),
        weights: vec![("model.safetensors".into(), weights(files, &kept)?)],
    }))
}

/// The ids of special tokens: those that are added, and those in brackets that some files name nowhere else.
fn special(tokenizer: &serde_json::Map<String, Value>) -> BTreeSet<u32> {
    let added = tokenizer.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
    added.filter_map(|token| u32::try_from(token.get("id")?.as_u64()?).ok()).collect()
}

/// The old ids that stay, ascending: their places are the new ids.
fn kept(pieces: &BTreeMap<u32, String>, special: &BTreeSet<u32>, ids: &[Vec<u32>]) -> Vec<u32> {
    let mut kept: BTreeSet<u32> =
        ids.iter().flatten().copied().filter(|id| pieces.contains_key(id)).collect();
    kept.extend(special);
    let mut common = 0;
    for (id, piece) in pieces {
        let bare = piece.strip_prefix("##").unwrap_or(piece);
        let named = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].contains(&piece.as_str());
        if bare.chars().count() <= SHORT || named {
            kept.insert(*id);
        } else if common < COMMON && !piece.starts_with("[unused") {
            common += 1;
            kept.insert(*id);
        }
    }
    kept.into_iter().collect()
}

/// Gives every kept piece its new id, wherever the tokenizer names one.
fn renumber(tokenizer: &mut serde_json::Map<String, Value>, kept: &[u32]) -> Result<()> {
    let new_id = |old: &Value| {
        let old = u32::try_from(old.as_u64()?).ok()?;
        kept.binary_search(&old).ok().map(Value::from)
    };
    let vocabulary = tokenizer.get_mut("model").and_then(|model| model.get_mut("vocab"));
    let vocabulary =
        vocabulary.and_then(Value::as_object_mut).ok_or(Error::Internal("the tokenizer was read before"))?;
    *vocabulary = std::mem::take(vocabulary)
        .into_iter()
        .filter_map(|(piece, id)| Some((piece, new_id(&id)?)))
        .collect();
    for token in tokenizer.get_mut("added_tokens").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(id) = token.get_mut("id") {
            *id = new_id(id).ok_or(Error::Internal("every special token is kept"))?;
        }
    }
    let Some(frame) = tokenizer.get_mut("post_processor").and_then(Value::as_object_mut) else {
        return Ok(());
    };
    for key in ["sep", "cls"] {
        if let Some(id) = frame.get_mut(key).and_then(|pair| pair.get_mut(1)) {
            *id = new_id(id).ok_or(Error::Internal("every special token is kept"))?;
        }
    }
    let tokens = frame.get_mut("special_tokens").and_then(Value::as_object_mut);
    for token in tokens.into_iter().flat_map(|tokens| tokens.values_mut()) {
        for id in token.get_mut("ids").and_then(Value::as_array_mut).into_iter().flatten() {
            *id = new_id(id).ok_or(Error::Internal("every special token is kept"))?;
        }
    }
    Ok(())
}

/// The weights with only these rows of the word embeddings, whatever their form.
fn weights(files: &EncoderFiles<&[u8]>, kept: &[u32]) -> Result<Vec<u8>> {
    let mut outputs = Vec::new();
    for (name, bytes) in &files.weights {
        let file = Tensors::parse(name, bytes)?;
        for tensor in file.names() {
            // The table, the scales of its rows and the steps of their groups: a row for each piece.
            match tensor.contains("word_embeddings.weight") {
                true => outputs.push(file.copy_rows(&tensor, kept)?),
                false => outputs.extend(copied(&file, &tensor)?),
            }
        }
    }
    Ok(tensors::write("sizewise-int8-encoder/1", &outputs)?)
}
