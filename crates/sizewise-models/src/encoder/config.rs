//! Which shape does an encoder have?

use super::modern::Modern;
use crate::error::{Error, Result};
use serde::Deserialize;

/// Largest sizes that are accepted: far above every known encoder, far below what would exhaust the memory.
const MOST_LAYERS: usize = 100;
const MOST_HIDDEN: usize = 16_384;
const MOST_POSITIONS: usize = 131_072;

/// How token vectors become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over all tokens.
    Mean,
    /// The first token.
    Cls,
}

/// The activation between the two feed-forward matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x · Φ(x) (Hendrycks and Gimpel 2016).
    Gelu,
    /// Its approximation by the hyperbolic tangent.
    GeluTanh,
    /// max(0, x)
    Relu,
}

/// The families of encoders: what their tensors are called and how positions are told.
#[derive(Debug, Clone)]
pub(super) enum Family {
    /// BERT and MiniLM.
    Bert,
    DistilBert,
    /// RoBERTa and XLM-RoBERTa, whose positions begin after the padding's id.
    Roberta {
        first_position: usize,
    },
    ModernBert(Modern),
}

/// The shape of an encoder, in one form for all families.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) family: Family,
    pub(super) hidden: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) intermediate: usize,
    pub(super) vocabulary: usize,
    /// Most tokens of a text.
    pub(super) positions: usize,
    pub(super) activation: Activation,
    pub(super) epsilon: f32,
    pub(super) pooling: Pooling,
}

#[derive(Deserialize)]
struct ConfigJson {
    model_type: String,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(alias = "dim")]
    hidden_size: usize,
    #[serde(alias = "n_layers")]
    num_hidden_layers: usize,
    #[serde(alias = "n_heads")]
    num_attention_heads: usize,
    #[serde(alias = "hidden_dim")]
    intermediate_size: usize,
    #[serde(alias = "activation", alias = "hidden_activation")]
    hidden_act: String,
    layer_norm_eps: Option<f32>,
    norm_eps: Option<f32>,
    pad_token_id: Option<usize>,
    position_embedding_type: Option<String>,
}

#[derive(Deserialize)]
struct PoolingJson {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
}

impl Family {
    /// What some files put before the name of every tensor.
    pub(super) fn prefix(&self) -> &'static str {
        match self {
            Self::Bert => "bert.",
            Self::DistilBert => "distilbert.",
            Self::Roberta { .. } => "roberta.",
            Self::ModernBert(_) => "model.",
        }
    }

    /// Where the word embeddings are.
    pub(super) fn words(&self) -> &'static str {
        match self {
            Self::ModernBert(_) => "embeddings.tok_embeddings.weight",
            _ => "embeddings.word_embeddings.weight",
        }
    }
}

impl Config {
    pub(super) fn parse(config: &[u8], pooling: Option<&[u8]>) -> Result<Self> {
        let damaged = |problem: String| Error::File { file: "config.json".into(), problem };
        let unsupported = |problem: String| Error::Unsupported { file: "config.json".into(), problem };
        let json: ConfigJson = serde_json::from_slice(config).map_err(|error| damaged(error.to_string()))?;
        let family = match json.model_type.as_str() {
            "bert" => Family::Bert,
            "distilbert" => Family::DistilBert,
            "roberta" | "xlm-roberta" => {
                Family::Roberta { first_position: json.pad_token_id.unwrap_or(1).saturating_add(1) }
            }
            "modernbert" => {
                // The number of layers is checked below; here nothing may grow with it.
                Family::ModernBert(Modern::parse(config, json.num_hidden_layers.min(MOST_LAYERS))?)
            }
            other => {
                return Err(unsupported(format!(
                    "model_type is `{other}`; this build runs bert, distilbert, roberta, xlm-roberta and modernbert"
                )));
            }
        };
        let first_position = match family {
            Family::Roberta { first_position } => first_position,
            _ => 0,
        };
        let positions = json.max_position_embeddings.saturating_sub(first_position);
        if let Some(kind) = json.position_embedding_type.filter(|kind| kind != "absolute") {
            return Err(unsupported(format!(
                "position_embedding_type is `{kind}`; this build runs `absolute`"
            )));
        }
        let activation = match json.hidden_act.as_str() {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            other => {
                return Err(unsupported(format!(
                    "hidden_act is `{other}`; this build runs gelu, gelu_new and relu"
                )));
            }
        };
        let bounds = [
            ("hidden_size", json.hidden_size, MOST_HIDDEN),
            ("num_hidden_layers", json.num_hidden_layers, MOST_LAYERS),
            ("num_attention_heads", json.num_attention_heads, json.hidden_size.max(1)),
            ("intermediate_size", json.intermediate_size, 4 * MOST_HIDDEN),
            ("vocab_size", json.vocab_size, sizewise_contract::limits::VOCABULARY),
            ("max_position_embeddings", json.max_position_embeddings, MOST_POSITIONS),
            ("max_position_embeddings less pad_token_id + 1", positions, MOST_POSITIONS),
        ];
        if let Some((key, value, most)) = bounds.iter().find(|(_, value, most)| *value == 0 || value > most) {
            return Err(damaged(format!("{key} is {value}; it must be 1 to {most}")));
        }
        if !json.hidden_size.is_multiple_of(json.num_attention_heads) {
            return Err(damaged(format!(
                "hidden_size {} is no multiple of num_attention_heads {}",
                json.hidden_size, json.num_attention_heads
            )));
        }
        let epsilon = match family {
            Family::ModernBert(_) => json.norm_eps.unwrap_or(1e-5),
            _ => json.layer_norm_eps.unwrap_or(1e-12),
        };
        if matches!(family, Family::ModernBert(_))
            && !(json.hidden_size / json.num_attention_heads).is_multiple_of(2)
        {
            return Err(damaged(
                "hidden_size / num_attention_heads is odd; rotary positions turn pairs".into(),
            ));
        }
        Ok(Self {
            family,
            hidden: json.hidden_size,
            layers: json.num_hidden_layers,
            heads: json.num_attention_heads,
            intermediate: json.intermediate_size,
            vocabulary: json.vocab_size,
            positions,
            activation,
            epsilon,
            pooling: pooling.map_or(Ok(Pooling::Mean), parse_pooling)?,
        })
    }
}

fn parse_pooling(bytes: &[u8]) -> Result<Pooling> {
    let file = || "1_Pooling/config.json".to_owned();
    let json: PoolingJson = serde_json::from_slice(bytes)
        .map_err(|error| Error::File { file: file(), problem: error.to_string() })?;
    match (json.pooling_mode_mean_tokens, json.pooling_mode_cls_token) {
        (true, false) => Ok(Pooling::Mean),
        (false, true) => Ok(Pooling::Cls),
        _ => Err(Error::Unsupported {
            file: file(),
            problem: "the pooling is neither mean_tokens nor cls_token".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BERT: &str = r#"{"model_type":"bert","vocab_size":100,"max_position_embeddings":64,"hidden_size":32,"num_hidden_layers":2,
        "num_attention_heads":4,"intermediate_size":64,"hidden_act":"gelu","layer_norm_eps":1e-12}"#;

    #[test]
    fn every_family_is_read() {
        assert!(matches!(Config::parse(BERT.as_bytes(), None).unwrap().family, Family::Bert));
        let distil = r#"{"model_type":"distilbert","vocab_size":100,"max_position_embeddings":64,"dim":32,"n_layers":2,"n_heads":4,
            "hidden_dim":64,"activation":"gelu"}"#;
        let config = Config::parse(distil.as_bytes(), Some(br#"{"pooling_mode_cls_token":true}"#)).unwrap();
        assert!(matches!(config.family, Family::DistilBert) && config.pooling == Pooling::Cls);
        let config = Config::parse(BERT.replace("\"bert\"", "\"xlm-roberta\"").as_bytes(), None).unwrap();
        assert!(matches!(config.family, Family::Roberta { first_position: 2 }) && config.positions == 62);
        let modern = BERT.replace("\"bert\"", "\"modernbert\"").replace("hidden_act", "hidden_activation");
        let config = Config::parse(modern.as_bytes(), None).unwrap();
        assert!(matches!(config.family, Family::ModernBert(_)) && config.epsilon == 1e-5);
    }

    #[test]
    fn what_cannot_run_is_named() {
        for (from, to, expected) in [
            ("\"bert\"", "\"gpt2\"", "model_type is `gpt2`"),
            ("\"gelu\"", "\"swish\"", "hidden_act is `swish`"),
            ("\"hidden_size\":32", "\"hidden_size\":0", "hidden_size is 0"),
            ("\"hidden_size\":32", "\"hidden_size\":99999999999", "hidden_size is 99999999999"),
            ("\"num_attention_heads\":4", "\"num_attention_heads\":5", "no multiple"),
            ("\"bert\"", "\"roberta\",\"pad_token_id\":63", "less pad_token_id + 1 is 0"),
            ("\"bert\"", "\"roberta\",\"pad_token_id\":18446744073709551615", "less pad_token_id + 1 is 0"),
        ] {
            let error = Config::parse(BERT.replace(from, to).as_bytes(), None).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn no_number_of_layers_is_taken_before_it_is_checked() {
        let modern = BERT.replace("\"bert\"", "\"modernbert\"");
        let modern = modern.replace("\"num_hidden_layers\":2", "\"num_hidden_layers\":1000000000000000000");
        let error = Config::parse(modern.as_bytes(), None).unwrap_err();
        assert!(error.to_string().contains("num_hidden_layers is 1000000000000000000"), "{error}");
    }
}
