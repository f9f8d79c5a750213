//! What does an encoder want before every text?
//!
//! Some encoders were trained with words in front that say what a text is, E5 with `query: ` and `passage: ` (Wang et al.
//! 2022). `config_sentence_transformers.json` lists such prompts; the one that it names as the default is put before
//! every text, as the sentence-transformers library does. Without a default, texts stay as they are.

use super::folder::EncoderFiles;
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::HashMap;

const FILE: &str = "config_sentence_transformers.json";
/// Longest prompt, in bytes.
const MOST_BYTES: usize = 4_096;

#[derive(Deserialize)]
struct PromptsJson {
    #[serde(default)]
    prompts: HashMap<String, String>,
    #[serde(default)]
    default_prompt_name: Option<String>,
}

#[derive(Deserialize)]
struct PoolingJson {
    #[serde(default = "yes")]
    include_prompt: bool,
}

fn yes() -> bool {
    true
}

/// The prompt of an encoder's files; empty where they name none.
///
/// # Errors
/// Fails when the file is damaged, names a prompt that it lacks, or the pooling leaves the prompt out.
pub(super) fn parse(files: &EncoderFiles<&[u8]>) -> Result<String> {
    let Some(bytes) = files.prompts else { return Ok(String::new()) };
    let damaged = |problem: String| Error::File { file: FILE.into(), problem };
    let mut json: PromptsJson = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    let Some(name) = json.default_prompt_name else { return Ok(String::new()) };
    let Some(prompt) = json.prompts.remove(&name) else {
        let name: String = name.chars().take(64).collect();
        return Err(damaged(format!("default_prompt_name is `{name}`, which prompts lacks")));
    };
    if prompt.len() > MOST_BYTES {
        return Err(damaged(format!("a prompt has {} bytes; at most {MOST_BYTES} are read", prompt.len())));
    }
    let pooling = files.pooling.and_then(|bytes| serde_json::from_slice::<PoolingJson>(bytes).ok());
    if !prompt.is_empty() && pooling.is_some_and(|pooling| !pooling.include_prompt) {
        let problem = "include_prompt is false; this build pools the prompt with the text".to_owned();
        return Err(Error::Unsupported { file: "1_Pooling/config.json".into(), problem });
    }
    Ok(prompt)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(prompts: Option<&str>, pooling: Option<&str>) -> Result<String> {
        parse(&EncoderFiles {
            config: b"",
            tokenizer: b"",
            pooling: pooling.map(str::as_bytes),
            prompts: prompts.map(str::as_bytes),
            weights: Vec::new(),
        })
    }

    #[test]
    fn the_default_prompt_is_taken() {
        let e5 = r#"{"prompts":{"query":"query: ","passage":"passage: "},"default_prompt_name":"query"}"#;
        assert_eq!(prompt(Some(e5), None).unwrap(), "query: ");
        let none =
            r#"{"prompts":{"query":"query: "},"default_prompt_name":null,"similarity_fn_name":"cosine"}"#;
        assert_eq!(prompt(Some(none), None).unwrap(), "");
        assert_eq!(prompt(Some("{}"), None).unwrap() + &prompt(None, None).unwrap(), "");
    }

    #[test]
    fn a_prompt_that_cannot_be_kept_is_refused() {
        let e5 = r#"{"prompts":{"query":"query: "},"default_prompt_name":"query"}"#;
        for (prompts, pooling, expected) in [
            (r#"{"default_prompt_name":"x"}"#, None, "default_prompt_name is `x`"),
            (r#"{"prompts":[]}"#, None, "invalid type"),
            (e5, Some(r#"{"include_prompt":false}"#), "include_prompt is false"),
        ] {
            let error = prompt(Some(prompts), pooling).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
