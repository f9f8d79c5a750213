//! Which products of training go through the processor's own instructions for brain floating point?
//!
//! Those with the matrices of the layers, which are nearly all: forwards, back to the inputs, and the gradients of the
//! matrices (mixed precision, Micikevicius et al. 2018, in a form that needs no scaling of the loss). Weights, what is added up to
//! them, attention, normalisation and heads stay in 32 bits.

use super::weights::{LinearPlace, Weights};
use crate::train::jobs;
use sizewise_models::products::{Order, Products, RightSide};
use std::{iter, sync::Mutex};

/// The matrices of all layers, arranged, and what multiplies.
#[derive(Debug, Default)]
pub(super) struct Brains {
    matrices: Vec<Arranged>,
    /// What no thread uses just now.
    idle: Mutex<Vec<Buffers>>,
}

/// One matrix `[outputs, inputs]`.
#[derive(Debug, Default)]
struct Arranged {
    /// `[inputs, outputs]`
    forward: RightSide,
    /// `[outputs, inputs]`
    back: RightSide,
}

/// What one thread multiplies with.
#[derive(Debug, Default)]
struct Buffers {
    products: Products,
    right: RightSide,
}

impl Brains {
    /// Takes over the weights of the layers from one on.
    pub(super) fn take(&mut self, weights: &Weights, first: usize, threads: usize) {
        let places: Vec<&LinearPlace> = weights.layers.iter().flat_map(|layer| layer.linear()).collect();
        self.matrices.resize_with(places.len(), Arranged::default);
        let work: Vec<_> = places
            .into_iter()
            .zip(self.matrices.iter_mut().map(Mutex::new))
            .filter(|(place, _)| place.layer >= first)
            .collect();
        let taken = jobs::run(work.len(), threads, |number| {
            let (place, arranged) = work.get(number)?;
            let mut arranged = arranged.lock().ok()?;
            let values = weights.slice(&place.weight);
            arranged.forward.set(values, place.inputs, Order::Columns);
            arranged.back.set(values, place.outputs, Order::Rows);
            Some(())
        });
        debug_assert!(taken.is_some(), "no matrix fails");
    }

    /// out += rows · matrixᵀ. `rows` is `[tokens, inputs]`, `out` is `[tokens, outputs]`.
    pub(super) fn add_forward(&self, place: &LinearPlace, rows: &[f32], out: &mut [f32]) {
        let Some(matrix) = self.matrices.get(place.number) else { return };
        self.with(|buffers| buffers.products.add((rows, Order::Rows), &matrix.forward, out));
    }

    /// out += slopes · matrix. `slopes` is `[tokens, outputs]`, `out` is `[tokens, inputs]`.
    pub(super) fn add_back(&self, place: &LinearPlace, slopes: &[f32], out: &mut [f32]) {
        let Some(matrix) = self.matrices.get(place.number) else { return };
        self.with(|buffers| buffers.products.add((slopes, Order::Rows), &matrix.back, out));
    }

    /// out += slopesᵀ · rows, the gradient of the matrix.
    pub(super) fn add_gradient(&self, place: &LinearPlace, slopes: &[f32], rows: &[f32], out: &mut [f32]) {
        self.with(|Buffers { products, right }| {
            right.set(rows, rows.len() / place.inputs.max(1), Order::Rows);
            products.add((slopes, Order::Columns), right, out);
        });
    }

    fn with(&self, work: impl FnOnce(&mut Buffers)) {
        let idle = || self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut buffers = idle().pop().unwrap_or_default();
        work(&mut buffers);
        idle().extend(iter::once(buffers));
    }
}
