//! How fast is all-MiniLM-L6-v2 on candle, and what vectors does it give? `candle-peer MODEL TEXTS BATCH` prints JSON.
//!
//! Texts are sorted by length before they are put into batches, as sentence-transformers does.

use anyhow::{Error, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use std::{path::Path, time::Instant};
use tokenizers::{PaddingParams, Tokenizer};

struct Peer {
    tokenizer: Tokenizer,
    model: BertModel,
}

impl Peer {
    fn load(folder: &Path) -> Result<Self> {
        let config: Config = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
        let mut tokenizer = Tokenizer::from_file(folder.join("tokenizer.json")).map_err(Error::msg)?;
        tokenizer.with_padding(Some(PaddingParams::default()));
        let weights = std::fs::read(folder.join("model.safetensors"))?;
        let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)?;
        Ok(Self { tokenizer, model: BertModel::load(weights, &config)? })
    }

    /// Mean-pooled last layer of one batch. `[texts, hidden]`
    fn embed(&self, texts: &[&str]) -> Result<Tensor> {
        let encoded = self.tokenizer.encode_batch(texts.to_vec(), true).map_err(Error::msg)?;
        let shape = (texts.len(), encoded[0].len());
        let ids: Vec<u32> = encoded.iter().flat_map(|text| text.get_ids().to_vec()).collect();
        let mask: Vec<u32> = encoded.iter().flat_map(|text| text.get_attention_mask().to_vec()).collect();
        let ids = Tensor::from_vec(ids, shape, &Device::Cpu)?;
        let mask = Tensor::from_vec(mask, shape, &Device::Cpu)?;
        let hidden = self.model.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
        let mask = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
        let mean = hidden.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&mask.sum(1)?)?;
        Ok(mean.broadcast_div(&mean.sqr()?.sum_keepdim(1)?.sqrt()?)?)
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, texts, batch] = arguments.as_slice() else {
        return Err(Error::msg("usage: candle-peer MODEL TEXTS BATCH"));
    };
    let peer = Peer::load(Path::new(model))?;
    let texts = std::fs::read_to_string(texts)?;
    let texts: Vec<&str> = texts.lines().collect();
    let batch: usize = batch.parse()?;

    let mut latencies = Vec::new();
    for text in texts.iter().take(100) {
        let began = Instant::now();
        peer.embed(&[text])?;
        latencies.push(began.elapsed().as_secs_f64() * 1e3);
    }
    latencies.sort_by(f64::total_cmp);

    let mut sorted = texts.clone();
    sorted.sort_by_key(|text| std::cmp::Reverse(text.len()));
    let began = Instant::now();
    for batch in sorted.chunks(batch) {
        peer.embed(batch)?;
    }
    let rate = texts.len() as f64 / began.elapsed().as_secs_f64();
    let vector = peer.embed(&texts[..1])?.flatten_all()?.to_vec1::<f32>()?;
    println!(
        "{}",
        serde_json::json!({
            "p50_ms": latencies[latencies.len() / 2],
            "texts_per_s": rate,
            "first_vector": vector,
        })
    );
    Ok(())
}
