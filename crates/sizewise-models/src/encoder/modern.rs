//! Where does each layer of a ModernBERT look, and how fast do its positions turn?
//!
//! Most layers see a window around each token, every few see the whole text, and either kind has its own base of rotary
//! frequencies (Warner et al. 2024). Files say it in two forms: `global_attn_every_n_layers` with two thetas, and newer ones
//! `layer_types` with `rope_parameters`.

use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

/// What sets a ModernBERT's layers apart.
#[derive(Debug, Clone)]
pub(super) struct Modern {
    /// Whether each layer sees the whole text. `[layers]`
    pub(super) sees_all: Vec<bool>,
    /// How far the other layers look, to either side, in tokens.
    pub(super) window: usize,
    /// Base of the frequencies where the whole text is seen.
    pub(super) global_theta: f32,
    /// Base of the frequencies in a window.
    pub(super) local_theta: f32,
}

#[derive(Deserialize)]
struct ModernJson {
    #[serde(default = "window")]
    local_attention: usize,
    global_attn_every_n_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    global_rope_theta: Option<f32>,
    local_rope_theta: Option<f32>,
    rope_parameters: Option<Value>,
    rope_scaling: Option<Value>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    norm_bias: bool,
}

fn window() -> usize {
    128
}

impl Modern {
    /// Reads the keys of a `config.json` that only a ModernBERT of so many layers has.
    ///
    /// # Errors
    /// Fails when a key is damaged or asks for what this build does not run.
    pub(super) fn parse(config: &[u8], layers: usize) -> Result<Self> {
        let damaged = |problem: String| Error::File { file: "config.json".into(), problem };
        let unsupported = |problem: String| Error::Unsupported { file: "config.json".into(), problem };
        let json: ModernJson = serde_json::from_slice(config).map_err(|error| damaged(error.to_string()))?;
        let refused = [
            ("attention_bias", json.attention_bias),
            ("mlp_bias", json.mlp_bias),
            ("norm_bias", json.norm_bias),
            ("rope_scaling", json.rope_scaling.is_some()),
        ];
        if let Some((key, _)) = refused.iter().find(|(_, is_set)| *is_set) {
            return Err(unsupported(format!("{key} is set; this build runs modernbert without it")));
        }
        let sees_all = match &json.layer_types {
            Some(kinds) => kinds
                .iter()
                .map(|kind| match kind.as_str() {
                    "full_attention" => Ok(true),
                    "sliding_attention" => Ok(false),
                    other => Err(unsupported(format!("layer_types has `{other}`"))),
                })
                .collect::<Result<Vec<_>>>()?,
            None => match json.global_attn_every_n_layers.unwrap_or(3) {
                0 => return Err(damaged("global_attn_every_n_layers is 0".into())),
                every => (0..layers).map(|layer| layer.is_multiple_of(every)).collect(),
            },
        };
        if sees_all.len() != layers {
            let found = sees_all.len();
            return Err(damaged(format!("layer_types has {found} entries for {layers} layers")));
        }
        let theta = |kind: &str, old: Option<f32>, usual: f32| {
            let parameters = json.rope_parameters.as_ref().and_then(|all| all.get(kind));
            let turned =
                parameters.and_then(|one| one.get("rope_type")).and_then(Value::as_str).unwrap_or("default");
            if turned != "default" {
                return Err(unsupported(format!("rope_parameters.{kind}.rope_type is `{turned}`")));
            }
            let new = parameters.and_then(|one| one.get("rope_theta")).and_then(Value::as_f64);
            let theta = new.map(|theta| theta as f32).or(old).unwrap_or(usual);
            if theta.is_finite() && theta >= 1.0 {
                Ok(theta)
            } else {
                Err(damaged(format!("the rope_theta of {kind} is {theta}; it must be 1 or more")))
            }
        };
        Ok(Self {
            global_theta: theta("full_attention", json.global_rope_theta, 160_000.0)?,
            local_theta: theta("sliding_attention", json.local_rope_theta, 10_000.0)?,
            sees_all,
            window: json.local_attention / 2,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let old = br#"{"num_hidden_layers":4,"local_attention":8,"global_attn_every_n_layers":3,"global_rope_theta":500.0,
            "local_rope_theta":50.0,"rope_scaling":null}"#;
        let new = br#"{"num_hidden_layers":4,"local_attention":8,
            "layer_types":["full_attention","sliding_attention","sliding_attention","full_attention"],"rope_parameters":{
            "full_attention":{"rope_theta":500.0,"rope_type":"default"},"sliding_attention":{"rope_theta":50.0}}}"#;
        for form in [&old[..], &new[..]] {
            let modern = Modern::parse(form, 4).unwrap();
            assert_eq!(modern.sees_all, [true, false, false, true]);
            assert_eq!((modern.window, modern.global_theta, modern.local_theta), (4, 500.0, 50.0));
        }
    }

    #[test]
    fn what_cannot_run_is_named() {
        for (config, expected) in [
            (r#"{"num_hidden_layers":1,"mlp_bias":true}"#, "mlp_bias is set"),
            (r#"{"num_hidden_layers":1,"global_attn_every_n_layers":0}"#, "global_attn_every_n_layers is 0"),
            (r#"{"num_hidden_layers":1,"layer_types":["chunked"]}"#, "layer_types has `chunked`"),
            (r#"{"num_hidden_layers":1,"layer_types":[]}"#, "0 entries for 1 layers"),
            (r#"{"num_hidden_layers":1,"global_rope_theta":0}"#, "the rope_theta of full_attention is 0"),
            (
                r#"{"num_hidden_layers":1,"rope_parameters":{"full_attention":{"rope_type":"yarn"}}}"#,
                "rope_parameters.full_attention.rope_type is `yarn`",
            ),
        ] {
            let error = Modern::parse(config.as_bytes(), 1).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
