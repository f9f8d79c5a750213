//! Do tokenizer and encoder answer as the public `tokenizers` and `transformers` packages do?
//!
//! The expected ids and float32 embeddings beside this file come from those packages; `parity/make_fixtures.py`
//! and `parity/make_subword_fixtures.py` made them and say how.

#![allow(clippy::unwrap_used, reason = "a fixture that cannot be read fails its test")]

use serde::Deserialize;
use sizewise_contract::{Embed, task::Overflow};
use sizewise_models::{
    encoder::{Encoder, EncoderFiles},
    tensors::{self, Output, Tensors},
    tokenizer::Tokenizer,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Largest difference of one number of a unit vector in floating point: sums in another order and the approximated
/// exponential and error functions, through three layers, come to 5 · 10⁻⁷.
const FLOAT_TOLERANCE: f32 = 1e-5;
/// Smallest cosine of the 8-bit forward pass with float32, of every text and in the median over texts. The fixtures give
/// 0.9987 and 0.9998; at 0.99 and 0.995 an offset of 127 in place of 128 or activations of six bits would pass unseen.
const BYTES_EVERY: f32 = 0.998;
const BYTES_MEDIAN: f32 = 0.9995;

const FAMILIES: [&str; 5] = ["bert", "distilbert", "roberta", "xlm-roberta", "modernbert"];

#[derive(Deserialize)]
struct Texts {
    tokenizers: BTreeMap<String, TokenizerFile>,
    texts: Vec<Row>,
}

#[derive(Deserialize)]
struct TokenizerFile {
    file: String,
}

/// A text, its ids by tokenizer (`NAME`), and cut to sixteen (`NAME in 16`).
#[derive(Deserialize)]
struct Row {
    text: String,
    #[serde(flatten)]
    ids: BTreeMap<String, Vec<u32>>,
}

#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
    /// Mean-pooled, from the last layer to the embeddings. `[layers + 1, texts, hidden]`
    layers: Vec<Vec<Vec<f32>>>,
    /// The last layer's vector of the first token. `[texts, hidden]`
    first_token: Vec<Vec<f32>>,
    long: Long,
    /// Mean-pooled last layers of the same weights under another activation. `[texts, hidden]`
    activations: BTreeMap<String, Vec<Vec<f32>>>,
}

#[derive(Deserialize)]
struct Long {
    text: String,
    windows: Vec<Vec<u32>>,
    embedding: Vec<f32>,
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(name)
}

fn texts(file: &str) -> Texts {
    serde_json::from_slice(&std::fs::read(fixture(file)).unwrap()).unwrap()
}

fn expected(family: &str) -> Expected {
    let bytes = std::fs::read(fixture(family).join("expected.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn tokenizer(file: &str) -> Tokenizer {
    Tokenizer::from_tokenizer_json(file, &std::fs::read(fixture(file)).unwrap()).unwrap()
}

/// The ids with the special ones around them, cut at the end where they are more than `most`.
fn framed(tokenizer: &Tokenizer, text: &str, most: usize) -> Vec<u32> {
    let mut ids = vec![tokenizer.cls()];
    tokenizer.encode_into(text, &mut ids);
    ids.truncate(most - 1);
    ids.push(tokenizer.sep());
    ids
}

/// The encoder of a folder with some of its `config.json` replaced.
fn encoder_with(family: &str, pooling: Option<&str>, from: &str, to: &str) -> Encoder {
    let files = EncoderFiles::read(&fixture(family)).unwrap();
    let config = String::from_utf8(files.config.clone()).unwrap();
    assert!(config.contains(from), "{family}/config.json has no {from}");
    let config = config.replace(from, to);
    let files =
        EncoderFiles { config: config.as_bytes(), pooling: pooling.map(str::as_bytes), ..files.as_ref() };
    Encoder::from_files(&files).unwrap()
}

/// The encoder of a folder with every matrix as bytes: one scale per output, the largest weight of a row becomes 127.
fn encoder_in_bytes(family: &str) -> Encoder {
    let files = EncoderFiles::read(&fixture(family)).unwrap();
    let (file, bytes) = &files.weights[0];
    let tensors = Tensors::parse(file, bytes).unwrap();
    let mut outputs = Vec::new();
    for name in tensors.names() {
        let shape = tensors.shape(&name).unwrap();
        let values = tensors.floats(&name, &shape).unwrap();
        let few = name.contains("position_embeddings") || name.contains("token_type_embeddings");
        if shape.len() != 2 || few {
            outputs.push(Output::floats(&name, &shape, &values));
            continue;
        }
        let rows = values.chunks_exact(shape[1]);
        let scales: Vec<f32> = rows
            .clone()
            .map(|row| row.iter().fold(0.0f32, |most, value| most.max(value.abs())) / 127.0)
            .collect();
        let rounded: Vec<i8> = rows
            .zip(&scales)
            .flat_map(|(row, scale)| row.iter().map(move |value| (value / scale).round() as i8))
            .collect();
        outputs.push(Output::bytes(&name, &shape, &rounded));
        outputs.push(Output::floats(&format!("{name}.scale"), &shape[..1], &scales));
    }
    let weights = tensors::write("sizewise-int8-encoder/1", &outputs).unwrap();
    let files = EncoderFiles { weights: vec![(file.clone(), weights.as_slice())], ..files.as_ref() };
    Encoder::from_files(&files).unwrap()
}

fn embed(encoder: &Encoder, texts: &[String]) -> Vec<Vec<f32>> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    encoder.embed(&texts, Overflow::Error).unwrap().rows().map(<[f32]>::to_vec).collect()
}

fn unit(row: &[f32]) -> Vec<f32> {
    let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
    row.iter().map(|value| value / length).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    unit(a).iter().zip(unit(b)).map(|(a, b)| a * b).sum()
}

/// Checks vectors of the floating point forward pass, which have unit length.
#[track_caller]
fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let expected = unit(expected);
    let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
    eprintln!("{what}: differs by {worst}");
    assert!(worst <= FLOAT_TOLERANCE, "{what}: differs by {worst}\n{found:?}\n{expected:?}");
}

#[test]
fn every_text_has_the_ids_of_the_public_package() {
    let Texts { tokenizers, texts } = texts("texts.json");
    assert!(texts.len() >= 60 && tokenizers.len() == 4);
    assert!(have_ids_of_the_package(&tokenizers, &texts) > 0, "no text is long enough to be cut");
    let Texts { tokenizers, texts } = self::texts("subword-texts.json");
    assert!(texts.len() >= 90 && tokenizers.len() == 6);
    have_ids_of_the_package(&tokenizers, &texts);
}

/// Compares all texts under all tokenizers, and says how many ids were cut.
#[track_caller]
fn have_ids_of_the_package(tokenizers: &BTreeMap<String, TokenizerFile>, texts: &[Row]) -> usize {
    let (mut wrong, mut cut) = (Vec::new(), 0);
    for (name, TokenizerFile { file }) in tokenizers {
        let tokenizer = tokenizer(file);
        for Row { text, ids } in texts {
            let found = framed(&tokenizer, text, usize::MAX);
            if let Some(expected) = ids.get(name).filter(|expected| **expected != found) {
                wrong.push(format!("{name} {text:?}\n  found    {found:?}\n  expected {expected:?}"));
            }
            if let Some(expected) = ids.get(&format!("{name} in 16")) {
                cut += 1;
                let found = framed(&tokenizer, text, 16);
                if found != *expected {
                    wrong.push(format!(
                        "{name} in 16 {text:?}\n  found    {found:?}\n  expected {expected:?}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    cut
}

#[test]
fn a_prompt_is_read_as_if_it_stood_before_the_text() {
    let files = EncoderFiles::read(&fixture("xlm-roberta")).unwrap();
    let prompts = br#"{"prompts":{"query":"query: ","passage":"passage: "},"default_prompt_name":"query"}"#;
    let spoken = Encoder::from_files(&EncoderFiles { prompts: Some(prompts), ..files.as_ref() }).unwrap();
    let plain = Encoder::from_files(&files.as_ref()).unwrap();
    assert_eq!((spoken.prompt(), plain.prompt()), ("query: ", ""));
    let found = embed(&spoken, &["my card".into()]);
    assert_eq!(found, embed(&plain, &["query: my card".into()]));
    assert_ne!(found, embed(&plain, &["my card".into()]));
    assert_eq!(spoken.count_tokens("my card"), plain.count_tokens("query: my card"));
    assert_ne!(spoken.hash(), plain.hash());
}

#[test]
fn the_last_layer_in_floating_point_is_that_of_the_public_package() {
    for family in FAMILIES {
        let encoder = Encoder::load(&fixture(family)).unwrap().with_last_layer_only();
        let expected = expected(family);
        for (text, ids) in expected.texts.iter().zip(&expected.ids) {
            assert_eq!(framed(encoder.tokenizer(), text, usize::MAX), *ids, "{family} {text:?}");
        }
        for ((text, found), row) in
            expected.texts.iter().zip(embed(&encoder, &expected.texts)).zip(&expected.layers[0])
        {
            assert_close(&format!("{family} {text:?}"), &found, row);
        }
    }
}

#[test]
fn four_layers_from_top_to_bottom_are_those_of_the_public_package() {
    // Models of two layers give their last one alone. Of four layers the last, two thirds and a third up, and the lowest.
    for (family, pooled) in
        [("bert", [0, 1, 2, 3]), ("xlm-roberta", [0, 1, 2, 3]), ("modernbert", [0, 2, 3, 4])]
    {
        let encoder = Encoder::load(&fixture(family)).unwrap();
        let expected = expected(family);
        assert_eq!(encoder.dimensions(), 4 * encoder.last_layer_dimensions());
        for (at, (text, found)) in expected.texts.iter().zip(embed(&encoder, &expected.texts)).enumerate() {
            let parts: Vec<f32> =
                pooled.iter().flat_map(|layer| unit(&expected.layers[*layer][at])).collect();
            assert_close(&format!("{family} {text:?}"), &found, &parts);
        }
    }
}

#[test]
fn pooling_and_activations_are_those_of_the_public_package() {
    for (family, key) in [
        ("bert", "hidden_act"),
        ("distilbert", "activation"),
        ("roberta", "hidden_act"),
        ("xlm-roberta", "hidden_act"),
        ("modernbert", "hidden_activation"),
    ] {
        let expected = expected(family);
        let from = format!(r#""{key}": "gelu""#);
        let cls = Some(r#"{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":false}"#);
        let mut cases = vec![("first token", encoder_with(family, cls, &from, &from), &expected.first_token)];
        for (name, rows) in &expected.activations {
            let to = format!(r#""{key}": "{name}""#);
            cases.push((name, encoder_with(family, None, &from, &to), rows));
        }
        assert_eq!(cases.len(), 3);
        for (name, encoder, rows) in cases {
            let encoder = encoder.with_last_layer_only();
            for ((text, found), row) in expected.texts.iter().zip(embed(&encoder, &expected.texts)).zip(rows)
            {
                assert_close(&format!("{family} {name} {text:?}"), &found, row);
            }
        }
    }
}

#[test]
fn a_long_text_is_cut_and_averaged_as_its_windows() {
    for family in FAMILIES {
        let encoder = Encoder::load(&fixture(family)).unwrap().with_last_layer_only();
        let Long { text, windows, embedding } = expected(family).long;
        assert!(encoder.embed(&[&text], Overflow::Error).is_err());
        let found = encoder.embed(&[&text], Overflow::Window).unwrap();
        assert_eq!(found.tokens, [windows.iter().map(Vec::len).sum::<usize>() as u32], "{family}");
        assert_close(family, &found.values, &embedding);
        // The same pieces, cut by the public package.
        let first = framed(encoder.tokenizer(), &text, encoder.token_limit());
        assert_eq!(first, windows[0], "{family}");
    }
}

#[test]
fn bytes_stay_close_to_the_floating_point_of_the_public_package() {
    for family in FAMILIES {
        let encoder = encoder_in_bytes(family).with_last_layer_only();
        let expected = expected(family);
        let mut cosines = Vec::new();
        for ((text, found), row) in
            expected.texts.iter().zip(embed(&encoder, &expected.texts)).zip(&expected.layers[0])
        {
            let cosine = cosine(&found, row);
            assert!(cosine >= BYTES_EVERY, "{family} {text:?}: {cosine}");
            cosines.push(cosine);
        }
        cosines.sort_by(f32::total_cmp);
        let median = cosines[cosines.len() / 2];
        eprintln!("{family}: cosine at least {}, median {median}", cosines[0]);
        assert!(median >= BYTES_MEDIAN, "{family}: median {median}");
    }
}
