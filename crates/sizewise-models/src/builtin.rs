//! Which models does the program bring along?
//!
//! An 8-bit MiniLM-L6 and static embeddings distilled from it, both derived by the program's own commands (`sizewise
//! models quantize`, `sizewise models distil-static`) and compiled in, so that one binary is all it takes.

use crate::{
    encoder::{Encoder, EncoderFiles},
    error::Result,
    static_embeddings::StaticEmbeddings,
};

static CONFIG: &[u8] = include_bytes!("../weights/minilm-l6-int8/config.json");
static TOKENIZER: &[u8] = include_bytes!("../weights/minilm-l6-int8/tokenizer.json");
static POOLING: &[u8] = include_bytes!("../weights/minilm-l6-int8/1_Pooling/config.json");
static ENCODER: &[u8] = include_bytes!("../weights/minilm-l6-int8/model.safetensors");
const ENCODER_NOTICE: &str = include_str!("../weights/minilm-l6-int8/NOTICE");
static STATIC: &[u8] = include_bytes!("../weights/static-256/embeddings.safetensors");
const STATIC_NOTICE: &str = include_str!("../weights/static-256/NOTICE");

/// Name of the built-in encoder.
pub const ENCODER_NAME: &str = "minilm-l6-int8";
/// Name of the built-in static embeddings.
pub const STATIC_NAME: &str = "static-256";

/// What stands in a NOTICE where whoever made the original named no licence.
pub const NOT_STATED: &str = "not stated in its folder";

/// The files of the built-in encoder.
#[must_use]
pub fn encoder_files() -> EncoderFiles<&'static [u8]> {
    EncoderFiles {
        config: CONFIG,
        tokenizer: TOKENIZER,
        pooling: Some(POOLING),
        prompts: None,
        weights: vec![("model.safetensors".into(), ENCODER)],
    }
}

/// Who made what the built-in encoder is derived from.
#[must_use]
pub fn encoder_notice() -> &'static str {
    ENCODER_NOTICE
}

/// Who made what the built-in static embeddings are derived from.
#[must_use]
pub fn static_embeddings_notice() -> &'static str {
    STATIC_NOTICE
}

/// The licence that a NOTICE of this program names.
#[must_use]
pub fn licence_in(notice: &str) -> Option<&str> {
    let named = notice.lines().find_map(|line| line.strip_prefix("Licence of the original:"))?;
    let named = named.trim().trim_end_matches('.');
    Some(named).filter(|licence| !licence.is_empty() && *licence != NOT_STATED)
}

/// Size of the built-in static embeddings in the program, in bytes; their tokenizer is the encoder's.
#[must_use]
pub fn static_embeddings_size() -> usize {
    STATIC.len()
}

/// Loads the built-in encoder.
///
/// # Errors
/// Fails only where the program was built from damaged files.
pub fn encoder() -> Result<Encoder> {
    Encoder::from_files(&encoder_files())
}

/// Loads the built-in static embeddings.
///
/// # Errors
/// Fails only where the program was built from damaged files.
pub fn static_embeddings() -> Result<StaticEmbeddings> {
    StaticEmbeddings::from_files(STATIC, TOKENIZER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::static_head::dot;
    use sizewise_contract::{Embed, task::Overflow};

    #[test]
    fn similar_questions_are_near_and_others_are_far() {
        let encoder = encoder().unwrap().with_last_layer_only();
        let texts = ["my card was stolen", "somebody took my bank card", "how do I bake sourdough bread"];
        let found = encoder.embed(&texts, Overflow::Error).unwrap();
        let rows: Vec<&[f32]> = found.rows().collect();
        let (near, far) = (dot(rows[0], rows[1]), dot(rows[0], rows[2]));
        assert!(near > 0.6 && far < 0.2, "{near} {far}");
    }

    #[test]
    fn what_is_built_in_names_its_licence() {
        assert_eq!(licence_in(encoder_notice()), Some("apache-2.0"));
        assert_eq!(licence_in(static_embeddings_notice()), Some("apache-2.0"));
        assert_eq!(licence_in(&format!("Licence of the original: {NOT_STATED}.")), None);
    }

    #[test]
    fn a_text_is_embedded_alike_in_every_batch_and_on_any_number_of_threads() {
        let texts: Vec<String> =
            (0..60).map(|i| format!("text number {i} {}", "and more ".repeat(i % 17))).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let one = encoder().unwrap().with_threads(1);
        let many = encoder().unwrap().with_threads(4);
        let together = many.embed(&texts, Overflow::Error).unwrap();
        for (text, row) in texts.iter().zip(together.rows()).step_by(7) {
            assert_eq!(one.embed(&[text], Overflow::Error).unwrap().values, row);
        }
    }

    #[test]
    fn a_text_too_long_is_refused_or_cut_as_the_rule_says() {
        let encoder = encoder().unwrap();
        let long = "word ".repeat(600);
        assert!(
            encoder.embed(&[&long], Overflow::Error).unwrap_err().to_string().contains("602 word pieces")
        );
        let windows = encoder.embed(&[&long, "short"], Overflow::Window).unwrap();
        assert_eq!(windows.tokens, [604, 3]);
        let head_tail = encoder.embed(&[&long], Overflow::HeadTail).unwrap();
        assert_eq!(head_tail.tokens, [512]);
        assert!(windows.rows().chain(head_tail.rows()).all(|row| (dot(row, row) - 1.0).abs() < 1e-4));
    }

    #[test]
    fn static_embeddings_know_what_belongs_together() {
        let embeddings = static_embeddings().unwrap();
        let embed = |text: &str| {
            let mut mean = Vec::new();
            embeddings.embed_into(text, &mut Vec::new(), &mut mean);
            mean
        };
        let (a, b, c) =
            (embed("stolen credit card"), embed("theft of a bank card"), embed("sourdough bread recipe"));
        assert!(dot(&a, &b) > dot(&a, &c) + 0.2, "{} {}", dot(&a, &b), dot(&a, &c));
    }
}
