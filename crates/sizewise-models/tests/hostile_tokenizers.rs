//! What can a damaged or hostile `tokenizer.json`, or a hostile text, do to a tokenizer?

#![allow(clippy::unwrap_used, reason = "a fixture that cannot be read fails its test")]

use serde_json::{Value, json};
use sizewise_models::{Error, tokenizer::Tokenizer};
use std::path::Path;

const FILES: [&str; 6] = [
    "roberta/tokenizer.json",
    "bpe-old.json",
    "modernbert/tokenizer.json",
    "xlm-roberta/tokenizer.json",
    "unigram-steps.json",
    "unigram-never.json",
];

fn bytes(file: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(file)).unwrap()
}

fn tokenizer(file: &str) -> Tokenizer {
    Tokenizer::from_tokenizer_json(file, &bytes(file)).unwrap()
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    for file in FILES {
        let bytes = bytes(file);
        for length in 0..bytes.trim_ascii_end().len() {
            let found = Tokenizer::from_tokenizer_json(file, &bytes[..length]);
            assert!(matches!(found, Err(Error::File { .. })), "{file} at {length}");
        }
    }
}

#[test]
fn every_value_of_another_type_is_survived() {
    for file in FILES {
        let whole: Value = serde_json::from_slice(&bytes(file)).unwrap();
        let mut places = Vec::new();
        collect(&whole, String::new(), &mut places);
        for place in places {
            for other in [Value::Null, json!(-1), json!(1e300), json!("x"), json!([[]]), json!({"type": 1})] {
                let mut damaged = whole.clone();
                *damaged.pointer_mut(&place).unwrap() = other;
                let found = Tokenizer::from_tokenizer_json(file, damaged.to_string().as_bytes());
                if let Ok(tokenizer) = found {
                    let mut ids = Vec::new();
                    tokenizer.encode_into("My  Café, <s> \u{1f44d}", &mut ids);
                    assert!(ids.iter().all(|id| (*id as usize) < tokenizer.ids()), "{file}{place}");
                }
            }
        }
    }
}

/// The places of all values; of long lists and vocabularies the first few.
fn collect(value: &Value, place: String, places: &mut Vec<String>) {
    match value {
        Value::Array(parts) => {
            for (at, part) in parts.iter().enumerate().take(4) {
                collect(part, format!("{place}/{at}"), places);
            }
        }
        Value::Object(entries) => {
            for (key, part) in entries.iter().take(12) {
                collect(part, format!("{place}/{}", key.replace('~', "~0").replace('/', "~1")), places);
            }
        }
        _ => {}
    }
    places.push(place);
}

#[test]
fn a_megabyte_without_a_space_is_cut() {
    for file in FILES {
        let tokenizer = tokenizer(file);
        for part in
            ["a", "lostcard", "\u{301}", "我的卡", "▁", "  ", "|||", "'", "\u{fdfa}", "\u{1f44d}\u{200d}"]
        {
            let text = part.repeat((1 << 20) / part.len());
            let mut ids = Vec::new();
            tokenizer.encode_into(&text, &mut ids);
            assert!(ids.iter().all(|id| (*id as usize) < tokenizer.ids()), "{file} {part:?}");
        }
    }
}

#[test]
fn special_tokens_in_a_text_are_text() {
    for file in FILES {
        let tokenizer = tokenizer(file);
        let special: Vec<u32> = match file {
            "modernbert/tokenizer.json" => vec![1, 2, 3, 4],
            // Without what stands for the unknown.
            _ => vec![0, 1, 2, 4],
        };
        for text in ["<s>", "</s> <pad>", "my <mask> card<s>", "[CLS][SEP] [MASK] [PAD]", "▁<s>"] {
            let mut ids = Vec::new();
            tokenizer.encode_into(text, &mut ids);
            assert!(!ids.iter().any(|id| special.contains(id)), "{file} {text:?} {ids:?}");
        }
    }
}

#[test]
fn what_is_not_run_is_named() {
    let refused = |file: &str, place: &str, value: Value| {
        let mut json: Value = serde_json::from_slice(&bytes(file)).unwrap();
        let (parent, key) = place.rsplit_once('/').unwrap();
        json.pointer_mut(parent).unwrap()[key] = value;
        Tokenizer::from_tokenizer_json(file, json.to_string().as_bytes()).unwrap_err().to_string()
    };
    for (file, place, value, expected) in [
        ("roberta/tokenizer.json", "/model/type", json!("WordLevel"), "model.type is `WordLevel`"),
        ("roberta/tokenizer.json", "/model/dropout", json!(0.5), "model.dropout is set"),
        ("roberta/tokenizer.json", "/model/novel", json!(1), "unknown field `novel`"),
        (
            "roberta/tokenizer.json",
            "/pre_tokenizer",
            json!({"type":"Digits"}),
            "pre_tokenizer.type is `Digits`",
        ),
        (
            "roberta/tokenizer.json",
            "/pre_tokenizer/use_regex",
            json!(false),
            "pre_tokenizer.use_regex is false",
        ),
        ("roberta/tokenizer.json", "/post_processor", Value::Null, "post_processor is missing"),
        ("roberta/tokenizer.json", "/post_processor/sep", json!(["</s>", 9_999]), "puts the id 9999 around"),
        (
            "roberta/tokenizer.json",
            "/normalizer",
            json!({"type":"BertNormalizer"}),
            "normalizer.type is `BertNorm",
        ),
        ("xlm-roberta/tokenizer.json", "/model/byte_fallback", json!(true), "model.byte_fallback is true"),
        (
            "modernbert/tokenizer.json",
            "/added_tokens/5/single_word",
            json!(true),
            "added_tokens.single_word is true",
        ),
        ("modernbert/tokenizer.json", "/added_tokens/5/id", json!(2_000_000), "added_tokens has an id"),
    ] {
        let found = refused(file, place, value);
        assert!(found.contains(expected), "{found}");
    }
}
