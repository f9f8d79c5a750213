//! What does a text look like to a transformer encoder?
//!
//! BERT, MiniLM and DistilBERT (Devlin et al. 2019; Wang et al. 2020; Sanh et al. 2019), RoBERTa and XLM-RoBERTa (Liu et al.
//! 2019; Conneau et al. 2020), ModernBERT (Warner et al. 2024), with mean or CLS pooling. The texts of a batch are packed one after the other, so nothing is computed for padding; every text's result is the
//! same in every batch and on any number of threads. Folders with 8-bit or bfloat16 weights run on the kernels, folders with
//! other floating point weights in floating point.

mod adapter;
mod attention;
mod base;
mod config;
mod floats;
mod folder;
mod forward;
mod layers;
mod modern;
mod pre_norm;
mod prompt;
mod shape;

pub use adapter::{Adapter, LoraChange, LoraMatrix, adapter_changes, adapter_to_bytes, base_of_adapter};
pub use base::{BaseLayer, BaseMatrix, BaseNorm, BaseWeights, EncoderShape};
pub use config::{Activation, Pooling};
pub use floats::exp;
pub use folder::EncoderFiles;
pub use pre_norm::{PreNorm, Rotary};
pub use shape::LayerShape;

use crate::{
    error::{Error, Result},
    kernels::Kernel,
    memory::InMemory,
    tokenizer::Tokenizer,
};
use adapter::Changed;
use forward::{Batch, Workspace};
use layers::{MOST_TOKENS, Stack, pooled_layers};
use sizewise_contract::{ContentHash, Embed, Embeddings, task::Overflow};
use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Word pieces that one thread takes at once; their activations stay in the cache.
pub(crate) const BATCH_TOKENS: usize = 512;

/// A transformer encoder with its tokenizer. Those that differ by an adapter alone share everything else.
#[derive(Debug)]
pub struct Encoder {
    base: Arc<Base>,
    adapter: Option<Arc<Adapter>>,
    /// The layers whose outputs are pooled, in the order of the vector's parts; 0 is the embedding layer.
    pooled: Vec<usize>,
    threads: usize,
    kernel: Kernel,
}

/// What an encoder's files hold.
#[derive(Debug)]
struct Base {
    tokenizer: Tokenizer,
    /// What stands before every text.
    prompt: String,
    stack: Stack,
    hash: ContentHash,
}

/// A text to be embedded, as ids that already have their special ones, by the encoder with or without an adapter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequence<'a> {
    pub(crate) ids: &'a [u32],
    pub(crate) adapter: Option<&'a Adapter>,
}

/// A text as word pieces, cut into as many windows as the overflow rule says.
struct Windows {
    text: usize,
    ids: Vec<Vec<u32>>,
}

impl Encoder {
    /// Loads an encoder folder: `config.json`, `tokenizer.json`, `*.safetensors` and, where present,
    /// `1_Pooling/config.json` and `config_sentence_transformers.json`.
    ///
    /// # Errors
    /// Fails when a file is missing, damaged or of a kind that this build cannot run; the message names file and key.
    pub fn load(folder: &Path) -> Result<Self> {
        Self::from_files(&EncoderFiles::read(folder)?.as_ref())
    }

    /// Puts an encoder together from the bytes of its files.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn from_files(files: &EncoderFiles<&[u8]>) -> Result<Self> {
        let tokenizer = Tokenizer::from_tokenizer_json("tokenizer.json", files.tokenizer)?;
        let stack = Stack::load(files)?;
        if tokenizer.ids() > stack.vocabulary() {
            let problem = format!(
                "its ids reach {}, the model has embeddings for {}",
                tokenizer.ids() - 1,
                stack.vocabulary()
            );
            return Err(Error::File { file: "tokenizer.json".into(), problem });
        }
        let prompt = prompt::parse(files)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let pooled = pooled_layers(stack.config.layers);
        let base = Arc::new(Base { tokenizer, prompt, stack, hash: files.hash() });
        Ok(Self { base, adapter: None, pooled, threads, kernel: Kernel::best() })
    }

    /// The same encoder with the changes of one task, in place of those that it may have; the weights are shared.
    ///
    /// # Errors
    /// Fails when the bytes are no adapter, or one of another encoder.
    pub fn with_adapter(&self, bytes: &[u8]) -> Result<Self> {
        let adapter = Adapter::load(bytes, self.base.hash, &self.base.stack)?;
        Ok(Self { adapter: Some(Arc::new(adapter)), ..self.without_adapter() })
    }

    /// The same encoder without the changes of a task; the weights are shared.
    #[must_use]
    pub fn without_adapter(&self) -> Self {
        Self {
            base: Arc::clone(&self.base),
            adapter: None,
            pooled: self.pooled.clone(),
            threads: self.threads,
            kernel: self.kernel,
        }
    }

    /// Uses at most this many threads for one call.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Multiplies with this kernel in place of the fastest one; the results are the same, for bfloat16 weights to rounding.
    #[must_use]
    pub fn with_kernel(mut self, kernel: Kernel) -> Self {
        self.kernel = kernel;
        self
    }

    /// Pools only the last layer, as the sentence-transformers library does, in place of four layers from top to bottom.
    #[must_use]
    pub fn with_last_layer_only(mut self) -> Self {
        self.pooled = vec![self.base.stack.config.layers];
        self
    }

    /// Hash of weights, tokenizer and settings: what a release was fitted with.
    #[must_use]
    pub fn hash(&self) -> ContentHash {
        self.adapter.as_ref().map_or(self.base.hash, |adapter| adapter.hash())
    }

    /// The same without the adapter: encoders that have it in common share their weights and may share their batches.
    #[must_use]
    pub fn base_hash(&self) -> ContentHash {
        self.base.hash
    }

    /// The changes of one task, where it has any.
    pub(crate) fn adapter(&self) -> Option<&Arc<Adapter>> {
        self.adapter.as_ref()
    }

    /// Bytes that it has in memory for itself, beside what encoders with the same base share.
    #[must_use]
    pub fn own_bytes(&self) -> usize {
        self.adapter.as_ref().map_or(0, |adapter| adapter.held_bytes())
    }

    /// The tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.base.tokenizer
    }

    /// Most word pieces of one input, the special ones included.
    #[must_use]
    pub fn token_limit(&self) -> usize {
        self.base.stack.positions().min(MOST_TOKENS)
    }

    /// Length of the vectors.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.base.stack.config.hidden * self.pooled.len()
    }

    /// Length of the part that comes from the last layer; it is the first part of every vector.
    #[must_use]
    pub fn last_layer_dimensions(&self) -> usize {
        self.base.stack.config.hidden
    }

    /// What is put before every text; empty for most encoders.
    #[must_use]
    pub fn prompt(&self) -> &str {
        &self.base.prompt
    }

    /// Counts the word pieces of a text, the prompt and the special ones included.
    #[must_use]
    pub fn count_tokens(&self, text: &str) -> usize {
        self.pieces(text).len() + 2
    }

    /// The ids of a text after its prompt.
    fn pieces(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        if self.base.prompt.is_empty() {
            self.base.tokenizer.encode_into(text, &mut ids);
        } else {
            self.base.tokenizer.encode_into(&format!("{}{text}", self.base.prompt), &mut ids);
        }
        ids
    }

    /// Embeds sequences of ids that already have their special ones. One row per sequence.
    ///
    /// # Errors
    /// Fails when an id has no embedding or a sequence is longer than the model reads.
    pub fn embed_ids(&self, sequences: &[Vec<u32>]) -> Result<Embeddings> {
        let adapter = self.adapter.as_deref();
        self.embed_sequences(&sequences.iter().map(|ids| Sequence { ids, adapter }).collect::<Vec<_>>())
    }

    /// The same, each sequence with changes of its own in place of this encoder's.
    pub(crate) fn embed_sequences(&self, sequences: &[Sequence<'_>]) -> Result<Embeddings> {
        sequences.iter().try_for_each(|sequence| self.check(sequence.ids))?;
        let dimensions = Embed::dimensions(self);
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        // Those that the same task changes stand together.
        let task = |sequence: &Sequence<'_>| {
            sequence.adapter.map_or(0, |adapter| std::ptr::from_ref(adapter).addr())
        };
        order.sort_by_key(|position| {
            sequences.get(*position).map(|sequence| (task(sequence), std::cmp::Reverse(sequence.ids.len())))
        });
        let batches = batches(&order, sequences);
        let values = Mutex::new(vec![0.0f32; sequences.len() * dimensions]);
        let next = AtomicUsize::new(0);
        let work = || {
            let mut workspace = Workspace::new(self.kernel);
            while let Some(positions) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                let here: Vec<Sequence<'_>> =
                    positions.iter().filter_map(|position| sequences.get(*position).copied()).collect();
                let texts: Vec<&[u32]> = here.iter().map(|sequence| sequence.ids).collect();
                let batch = Batch { texts: &texts, changed: changed(&here) };
                let rows = self.base.stack.forward(&batch, &self.pooled, &mut workspace);
                let Ok(mut values) = values.lock() else { return };
                for (position, row) in positions.iter().zip(rows.chunks_exact(dimensions)) {
                    if let Some(slot) = values.get_mut(position * dimensions..(position + 1) * dimensions) {
                        slot.copy_from_slice(row);
                    }
                }
            }
        };
        match self.threads.min(batches.len()) {
            0 | 1 => work(),
            threads => std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work)))),
        }
        let values = values.into_inner().map_err(|_| Error::Internal("an encoder thread panicked"))?;
        let tokens = sequences.iter().map(|sequence| sequence.ids.len() as u32).collect();
        Ok(Embeddings { values, dimensions, tokens })
    }

    fn check(&self, ids: &[u32]) -> Result<()> {
        let limit = self.token_limit();
        if ids.is_empty() || ids.len() > limit {
            return Err(Error::TooLong { tokens: ids.len(), limit });
        }
        if ids.iter().any(|id| *id as usize >= self.base.stack.vocabulary()) {
            return Err(Error::Internal("every id has an embedding"));
        }
        Ok(())
    }

    /// What is behind some layers for every token of one text, given as ids that already have their special ones. One row per token, the
    /// layers side by side, each `last_layer_dimensions` long; layer 0 are the embeddings.
    ///
    /// # Errors
    /// As [`Self::embed_ids`].
    pub fn token_vectors(&self, ids: &[u32], layers: &[usize]) -> Result<Vec<f32>> {
        self.check(ids)?;
        let (size, width) = (self.base.stack.config.hidden, self.base.stack.config.hidden * layers.len());
        let mut rows = vec![0.0f32; ids.len() * width];
        let sequence = Sequence { ids, adapter: self.adapter.as_deref() };
        let batch = Batch { texts: &[ids], changed: changed(&[sequence]) };
        self.base.stack.run(&batch, &mut Workspace::new(self.kernel), |number, hidden| {
            for place in (0..layers.len()).filter(|place| layers.get(*place) == Some(&number)) {
                for (row, token) in rows.chunks_exact_mut(width).zip(hidden.chunks_exact(size)) {
                    row.iter_mut().skip(place * size).zip(token).for_each(|(slot, value)| *slot = *value);
                }
            }
        });
        Ok(rows)
    }

    /// The windows of all texts as sequences of ids, and the text that each belongs to.
    ///
    /// # Errors
    /// Fails when a text is longer than the model reads and the rule does not cut.
    pub fn sequences(&self, texts: &[&str], overflow: Overflow) -> Result<(Vec<Vec<u32>>, Vec<usize>)> {
        let mut owners = Vec::with_capacity(texts.len());
        let mut sequences = Vec::with_capacity(texts.len());
        for (position, text) in texts.iter().enumerate() {
            let windows = self.windows(position, text, overflow)?;
            owners.extend(std::iter::repeat_n(windows.text, windows.ids.len()));
            sequences.extend(windows.ids);
        }
        Ok((sequences, owners))
    }

    /// Cuts a text into the windows that the overflow rule asks for.
    fn windows(&self, text: usize, content: &str, overflow: Overflow) -> Result<Windows> {
        let ids = self.pieces(content);
        let limit = self.token_limit();
        let room = limit.saturating_sub(2).max(1);
        let framed = |part: &[u32]| {
            let mut framed = Vec::with_capacity(part.len() + 2);
            framed.push(self.base.tokenizer.cls());
            framed.extend_from_slice(part);
            framed.push(self.base.tokenizer.sep());
            framed
        };
        if ids.len() <= room {
            return Ok(Windows { text, ids: vec![framed(&ids)] });
        }
        match overflow {
            Overflow::Error => Err(Error::TooLong { tokens: ids.len() + 2, limit }),
            Overflow::Window => Ok(Windows { text, ids: ids.chunks(room).map(framed).collect() }),
            Overflow::HeadTail => {
                // Three quarters from the beginning: the matter usually comes first.
                let head = room * 3 / 4;
                let tail = ids.len() - (room - head);
                let kept =
                    [ids.get(..head).unwrap_or_default(), ids.get(tail..).unwrap_or_default()].concat();
                Ok(Windows { text, ids: vec![framed(&kept)] })
            }
        }
    }
}

/// The tokens of a batch that tasks change, neighbours of the same task together.
fn changed<'a>(sequences: &[Sequence<'a>]) -> Vec<Changed<'a>> {
    let (mut changed, mut first): (Vec<Changed<'a>>, usize) = (Vec::new(), 0);
    for Sequence { ids, adapter } in sequences {
        let tokens = first..first + ids.len();
        first = tokens.end;
        let Some(adapter) = adapter else { continue };
        match changed.last_mut() {
            Some(last) if std::ptr::eq(last.adapter, *adapter) && last.tokens.end == tokens.start => {
                last.tokens.end = tokens.end;
            }
            _ => changed.push(Changed { tokens, adapter }),
        }
    }
    changed
}

/// Groups sequences, in the order given, into batches of at most [`BATCH_TOKENS`] word pieces.
fn batches(order: &[usize], sequences: &[Sequence<'_>]) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut tokens = usize::MAX;
    for &position in order {
        let length = sequences.get(position).map_or(0, |sequence| sequence.ids.len());
        match batches.last_mut() {
            Some(batch) if tokens.saturating_add(length) <= BATCH_TOKENS => {
                batch.push(position);
                tokens += length;
            }
            _ => {
                batches.push(vec![position]);
                tokens = length;
            }
        }
    }
    batches
}

impl Embed for Encoder {
    type Error = Error;

    fn dimensions(&self) -> usize {
        self.base.stack.config.hidden * self.pooled.len()
    }

    fn embed(&self, texts: &[&str], overflow: Overflow) -> Result<Embeddings> {
        let (sequences, owners) = self.sequences(texts, overflow)?;
        Ok(merge_windows(self.embed_ids(&sequences)?, &owners, texts.len()))
    }
}

/// Averages the windows of each text by their length and makes the mean unit length.
pub(crate) fn merge_windows(parts: Embeddings, owners: &[usize], texts: usize) -> Embeddings {
    if parts.tokens.len() == texts {
        return parts;
    }
    let dimensions = parts.dimensions;
    let mut merged = Embeddings { values: vec![0.0; texts * dimensions], dimensions, tokens: vec![0; texts] };
    for ((row, tokens), &owner) in parts.rows().zip(&parts.tokens).zip(owners) {
        if let (Some(sum), Some(total)) = (
            merged.values.get_mut(owner * dimensions..(owner + 1) * dimensions),
            merged.tokens.get_mut(owner),
        ) {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value * *tokens as f32);
            *total += tokens;
        }
    }
    merged.values.chunks_exact_mut(dimensions.max(1)).for_each(floats::to_unit_length);
    merged
}

impl InMemory for Encoder {
    fn held_bytes(&self) -> usize {
        let Base { tokenizer, prompt, stack, .. } = self.base.as_ref();
        tokenizer.held_bytes() + prompt.held_bytes() + stack.held_bytes() + self.own_bytes()
    }
}
