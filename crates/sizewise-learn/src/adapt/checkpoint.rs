//! How does an interrupted training go on as if nothing had happened?
//!
//! After every epoch everything that the next step reads is written to one file: parameters, what the optimiser
//! remembers, the position, and the best parameters so far. Order of rows and dropout follow from the seed and the
//! position. A fingerprint of data, settings and base weights keeps a checkpoint from going on with something else.

use super::{optimizer::Optimizer, run::EpochSummary};
use crate::error::{Error, Result, at};
use sizewise_contract::ContentHash;
use sizewise_models::tensors::{self, Output, Tensors};
use std::path::Path;

/// Name of the file in its folder.
pub(super) const FILE: &str = "checkpoint.safetensors";
const FORMAT: &str = "sizewise-adapt-checkpoint/1";

/// Everything that the next step reads.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    /// Of the encoder, then of the heads.
    pub(super) parameters: Vec<f32>,
    pub(super) optimizer: Optimizer,
    /// One entry per finished epoch; the first, of epoch 0, is before any step.
    pub(super) epochs: Vec<EpochSummary>,
    /// The best parameters so far, and after which epoch.
    pub(super) best: Vec<f32>,
    pub(super) best_epoch: usize,
    /// Shift and scale of the vectors.
    pub(super) mean: Vec<f32>,
    pub(super) scale: f32,
}

impl State {
    /// Writes the file, whole or not at all.
    pub(super) fn write(&self, folder: &Path, fingerprint: ContentHash) -> Result<()> {
        let floats = |name: &str, values: &[f32]| Output::floats(name, &[values.len()], values);
        let longs = |name: &str, values: &[u64]| Output::longs(name, &[values.len()], values);
        let epochs: Vec<u64> = self
            .epochs
            .iter()
            .flat_map(|epoch| {
                [epoch.loss.to_bits(), epoch.right as u64, epoch.held_out as u64, epoch.seconds.to_bits()]
            })
            .collect();
        let mut standard = self.mean.clone();
        standard.push(self.scale);
        let bytes = tensors::write(
            FORMAT,
            &[
                floats("parameters", &self.parameters),
                floats("first", &self.optimizer.first),
                floats("second", &self.optimizer.second),
                floats("best", &self.best),
                floats("standard", &standard),
                longs("epochs", &epochs),
                longs("position", &[self.optimizer.steps, self.best_epoch as u64]),
                longs("fingerprint", &words(fingerprint)),
            ],
        )?;
        std::fs::create_dir_all(folder).map_err(at(folder))?;
        let (draft, path) = (folder.join("checkpoint.draft"), folder.join(FILE));
        let file = std::fs::File::create(&draft).map_err(at(&draft))?;
        std::io::Write::write_all(&mut &file, &bytes).and_then(|()| file.sync_all()).map_err(at(&draft))?;
        std::fs::rename(&draft, &path).map_err(at(&path))
    }

    /// Reads the file; none where there is none.
    pub(super) fn read(folder: &Path, fingerprint: ContentHash) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = std::fs::read(&path).map_err(at(&path))?;
        let file = Tensors::parse(FILE, &bytes)?;
        file.expect_format(FORMAT)?;
        let floats = |name: &str| -> Result<Vec<f32>> { Ok(file.floats(name, &file.shape(name)?)?) };
        let longs = |name: &str| -> Result<Vec<u64>> { Ok(file.longs(name, &file.shape(name)?)?) };
        let unusable = |problem: &str| Error::Unusable {
            path: path.clone(),
            problem: problem.into(),
            hint: Some("train without --resume, which begins anew".into()),
        };
        if longs("fingerprint")? != words(fingerprint) {
            return Err(unusable("it was made with other rows, settings or weights"));
        }
        let (mut standard, position) = (floats("standard")?, longs("position")?);
        let (Some(scale), &[steps, best_epoch]) = (standard.pop(), position.as_slice()) else {
            return Err(unusable("it is damaged"));
        };
        let epoch = |values: &[u64; 4]| EpochSummary {
            loss: f64::from_bits(values[0]),
            right: values[1] as usize,
            held_out: values[2] as usize,
            seconds: f64::from_bits(values[3]),
        };
        let state = Self {
            parameters: floats("parameters")?,
            optimizer: Optimizer { first: floats("first")?, second: floats("second")?, steps },
            epochs: longs("epochs")?.as_chunks::<4>().0.iter().map(epoch).collect(),
            best: floats("best")?,
            best_epoch: best_epoch as usize,
            mean: standard,
            scale,
        };
        let size = state.parameters.len();
        if [state.optimizer.first.len(), state.optimizer.second.len(), state.best.len()] != [size; 3] {
            return Err(unusable("it is damaged"));
        }
        Ok(Some(state))
    }
}

/// The hash as numbers that the format can hold.
fn words(hash: ContentHash) -> Vec<u64> {
    hash.to_string().bytes().map(u64::from).collect()
}
