//! How do small models read a text and judge it?
//!
//! ```text
//!   text ─► ngrams ─► vocabulary ─┐
//!        └► wordpiece ─► static_embeddings ─┴─► static_head ─► logits
//!        └► tokenizer ─► encoder (batching) ─► linear_head ─► logits,  neighbours ─► the nearest training rows
//!   logits and signals ─► calibrator ─► confidence
//!   text ─► tagger ─► names, places and the like
//! ```
//!
//! Nothing here is fitted: the forms that models have while they run, their files and the checks of those files.

pub mod batching;
pub mod builtin;
pub mod calibrator;
mod class_vectors;
pub mod encoder;
pub mod error;
mod kernels;
pub mod known_inputs;
pub mod linear_head;
pub mod memory;
pub mod neighbours;
pub mod ngrams;
pub mod nibbles;
pub mod package;
pub mod products;
pub mod remote;
pub mod static_embeddings;
pub mod static_head;
pub mod static_reader;
pub mod tagger;
pub mod tensors;
pub mod tiers;
pub mod tokenizer;
pub mod vocabulary;
pub mod wordpiece;

pub use error::{Error, Result};
pub use kernels::{Kernel, widest};
