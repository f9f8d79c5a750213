//! Which models are loaded, once for all tasks?

use crate::error::Error;
use sizewise_contract::ContentHash;
use sizewise_models::{
    batching::{Batcher, Seat},
    builtin,
    encoder::{Encoder, EncoderFiles, base_of_adapter},
    static_embeddings::StaticEmbeddings,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// The loaded models that tasks share.
#[derive(Debug)]
pub(crate) struct Catalogue {
    /// Loaded when the first task needs them: a server that only passes calls on has no use for their 15 megabytes.
    static_embeddings: Mutex<Option<Arc<StaticEmbeddings>>>,
    /// Encoders in use, without what tasks change of them; one that no task uses any more is dropped.
    encoders: Mutex<HashMap<ContentHash, Weak<Batcher>>>,
    workers: usize,
}

impl Catalogue {
    pub(crate) fn new(workers: usize) -> Self {
        Self { static_embeddings: Mutex::default(), encoders: Mutex::default(), workers }
    }

    /// The static embeddings, if they are the ones that were fitted with.
    pub(crate) fn static_embeddings(&self, hash: &ContentHash) -> Result<Arc<StaticEmbeddings>, Error> {
        let mut loaded = self.static_embeddings.lock().unwrap_or_else(PoisonError::into_inner);
        let embeddings = match &*loaded {
            Some(embeddings) => embeddings,
            None => loaded.insert(Arc::new(builtin::static_embeddings()?)),
        };
        match embeddings.hash() == *hash {
            true => Ok(Arc::clone(embeddings)),
            false => Err(Error::OtherBuild { what: "static embeddings" }),
        }
    }

    /// A place at the encoder of a hash: one that is loaded, the built-in one, or the one whose files `files` hands out, with the
    /// adapter of the task where it has one.
    pub(crate) fn encoder(
        &self,
        hash: &ContentHash,
        adapter: Option<Vec<u8>>,
        files: impl FnOnce() -> Result<Option<EncoderFiles<Vec<u8>>>, Error>,
    ) -> Result<Seat, Error> {
        let base = adapter.as_deref().map_or(Ok(*hash), base_of_adapter)?;
        let seat = self.batcher(&base, files)?.seat();
        let seat = match &adapter {
            Some(bytes) => seat.with_adapter(bytes)?,
            None => seat,
        };
        match seat.encoder().hash() == *hash {
            true => Ok(seat),
            false => Err(Error::OtherBuild { what: "encoder" }),
        }
    }

    fn batcher(
        &self,
        base: &ContentHash,
        files: impl FnOnce() -> Result<Option<EncoderFiles<Vec<u8>>>, Error>,
    ) -> Result<Arc<Batcher>, Error> {
        let mut encoders = self.encoders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = encoders.get(base).and_then(Weak::upgrade) {
            return Ok(loaded);
        }
        let encoder = match files()? {
            Some(files) => Encoder::from_files(&files.as_ref())?,
            None => builtin::encoder()?,
        };
        if encoder.hash() != *base {
            return Err(Error::OtherBuild { what: "encoder" });
        }
        let batcher = Arc::new(Batcher::start(encoder, self.workers)?);
        encoders.retain(|_, known| known.strong_count() > 0);
        encoders.insert(*base, Arc::downgrade(&batcher));
        Ok(batcher)
    }

    pub(crate) fn waiting_tokens(&self) -> usize {
        let encoders = self.encoders.lock().unwrap_or_else(PoisonError::into_inner);
        encoders.values().filter_map(Weak::upgrade).map(|batcher| batcher.waiting_tokens()).sum()
    }
}
