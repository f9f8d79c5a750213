//! How does an encoder that lost parts learn to answer as it did when it was whole?
//!
//! By distillation (Hinton et al. 2015; of layers as in TinyBERT, Jiao et al. 2020): its vectors of the training texts are drawn
//! to those of the whole encoder, part by part. That needs no labels, so nothing of them leaks, and the heads that are fitted
//! afterwards are calibrated as always. A vector holds four pooled layers side by side, so every third of the stack has a target
//! of its own. Part of the texts are spliced from two, which teaches the encoder about more texts than there are.

use super::{
    Precision, Watch,
    checkpoint::State,
    network::{Dropout, Network, Tape},
    optimizer::{Group, Optimizer, schedule},
    run::{EpochSummary, Gradients, Pace, Progress},
    weights::Method,
};
use crate::{
    error::{Error, Result},
    fit::Random,
    train::jobs,
};
use sizewise_contract::ContentHash;
use sizewise_models::encoder::{BaseWeights, Encoder, EncoderFiles};
use std::{
    collections::BTreeMap,
    sync::{Mutex, atomic::Ordering},
    time::Instant,
};

/// Texts of a batch that go through the encoder together on one thread.
const PART: usize = 16;
/// Texts whose targets are held at once.
const TAUGHT_TOGETHER: usize = 2_048;
/// Parts into which texts are dealt for scoring.
const SCORED_PARTS: usize = 8;

/// How an encoder recovers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recovery {
    /// How often every text is seen.
    pub(crate) epochs: usize,
    /// Learning rate at its highest.
    pub(crate) learning_rate: f32,
    /// Texts of one step.
    pub(crate) batch: usize,
    /// How much weights shrink in a step, in learning rates.
    pub(crate) weight_decay: f32,
    /// One of so many texts stays as it is; the others are spliced.
    pub(crate) whole_of: usize,
    /// Decides order and splices.
    pub(crate) seed: u64,
    /// Threads to use; the result does not depend on it.
    pub(crate) threads: usize,
}

/// An encoder that recovered.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// The changed tensors, by their names in the files.
    pub(crate) tensors: BTreeMap<String, Vec<f32>>,
    /// Mean squared distance to the whole encoder's vectors, an entry an epoch.
    pub(crate) distances: Vec<f64>,
}

/// How much each part of an encoder moves its vectors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Importance {
    /// `[layers]`, each `[heads]`
    pub(crate) heads: Vec<Vec<f64>>,
    /// `[layers]`, each `[intermediate]`
    pub(crate) neurons: Vec<Vec<f64>>,
}

/// Scores heads and neurons by first-order Taylor expansion (Molchanov et al. 2017; for heads Michel et al. 2019): how far the
/// vectors would move without them, to first order. A text's vector is projected on a random direction; the product of a part's
/// activations and their gradient, summed over the tokens, is the product of the weights that read it and their gradient.
pub(crate) fn importance(
    files: &EncoderFiles<&[u8]>,
    ids: &[Vec<u32>],
    (seed, threads): (u64, usize),
    watch: &Watch<'_>,
) -> Result<Importance> {
    let network = Network::new(BaseWeights::read(files)?, &Method::Full);
    let size = network.base.shape.hidden / network.base.shape.heads.max(1);
    let parameters = network.weights.initial(seed);
    let done = std::sync::atomic::AtomicU64::new(0);
    let began = Instant::now();
    // So many parts on any number of threads, for the same sums; each has a gradient as long as the encoder.
    let scored = jobs::run(SCORED_PARTS, threads, |part| {
        let layers = &network.base.layers;
        let mut sums = Importance {
            heads: layers.iter().map(|layer| vec![0.0; layer.shape.heads]).collect(),
            neurons: layers.iter().map(|layer| vec![0.0; layer.shape.intermediate]).collect(),
        };
        let mut gradient = vec![0.0; parameters.len()];
        for (number, text) in ids.iter().enumerate().skip(part).step_by(SCORED_PARTS) {
            if watch.stop.load(Ordering::Relaxed) {
                return None;
            }
            let mut random = Random(seed ^ (number as u64) << 20);
            let tape = network.forward(&[text], &mut Dropout { share: 0.0, random: Random(0) });
            let slopes: Vec<f32> =
                (0..network.dimensions()).map(|_| if random.below(2) == 0 { 1.0 } else { -1.0 }).collect();
            gradient.fill(0.0);
            network.backward(&tape, &slopes, &parameters, &mut gradient);
            for (layer, places) in network.weights.layers.iter().enumerate() {
                for (place, unit, into) in [
                    (&places.attention_out, size, sums.heads.get_mut(layer)?),
                    (&places.down, 1, sums.neurons.get_mut(layer)?),
                ] {
                    let weights = parameters.get(place.weight.clone())?;
                    let slopes = gradient.get(place.weight.clone())?;
                    let mut moved = vec![0.0f32; place.inputs];
                    for (weights, slopes) in
                        weights.chunks_exact(place.inputs).zip(slopes.chunks_exact(place.inputs))
                    {
                        moved
                            .iter_mut()
                            .zip(weights.iter().zip(slopes))
                            .for_each(|(sum, (w, s))| *sum += w * s);
                    }
                    for (sum, part) in into.iter_mut().zip(moved.chunks_exact(unit)) {
                        *sum += f64::from(part.iter().sum::<f32>()).powi(2);
                    }
                }
            }
            let step = done.fetch_add(1, Ordering::Relaxed) + 1;
            let left =
                began.elapsed().as_secs_f64() / step as f64 * (ids.len() as u64).saturating_sub(step) as f64;
            (watch.progress)(&Progress {
                training: 1,
                trainings: 1,
                step,
                steps: ids.len() as u64,
                epoch: 0,
                loss: 0.0,
                accuracy: None,
                seconds_left: left,
            });
        }
        Some(sums)
    });
    let mut scored = scored.ok_or(Error::Interrupted)?.into_iter();
    let mut all = scored.next().ok_or(Error::Internal("there is a part"))?;
    let add = |sums: &mut Vec<Vec<f64>>, more: &[Vec<f64>]| {
        for (sums, more) in sums.iter_mut().zip(more) {
            sums.iter_mut().zip(more).for_each(|(sum, value)| *sum += value);
        }
    };
    for more in scored {
        add(&mut all.heads, &more.heads);
        add(&mut all.neurons, &more.neurons);
    }
    Ok(all)
}

/// Draws the vectors of `student` to those of `teacher`, on texts given as word pieces.
///
/// **Determinism.** The same texts, settings and files give the same tensors, on any number of threads and with any number of
/// interruptions.
///
/// # Errors
/// Fails when the files cannot be trained, a checkpoint does not fit, or the user stopped the work; finished epochs are in the
/// checkpoint.
pub(crate) fn recover(
    teacher: &Encoder,
    student: &EncoderFiles<&[u8]>,
    ids: &[Vec<u32>],
    settings: &Recovery,
    watch: &Watch<'_>,
) -> Result<Recovered> {
    let precision = Precision::of_this_machine();
    let network =
        Network::new(BaseWeights::read(student)?, &Method::Full).with_precision(precision, settings.threads);
    if network.dimensions() != sizewise_contract::Embed::dimensions(teacher) {
        return Err(Error::Internal("an encoder that recovers pools as many layers as its teacher"));
    }
    let mut hash = ContentHash::builder();
    hash.field(teacher.hash().as_bytes());
    hash.field(student.hash().as_bytes());
    hash.field(format!("{:?} {precision:?}", Recovery { threads: 0, ..settings.clone() }).as_bytes());
    for ids in ids {
        hash.field(&ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>());
    }
    let fingerprint = hash.finish();
    let state = match watch.checkpoint.filter(|_| watch.resume) {
        Some(folder) => State::read(folder, fingerprint)?,
        None => None,
    };
    let initial = network.weights.initial(settings.seed);
    let state = state.unwrap_or_else(|| State {
        optimizer: Optimizer::new(initial.len()),
        epochs: Vec::new(),
        best: initial.clone(),
        best_epoch: 0,
        parameters: initial,
        mean: Vec::new(),
        scale: 1.0,
    });
    if state.parameters.len() != network.weights.parameters() {
        return Err(Error::Internal("a checkpoint fits what made it"));
    }
    Student { network, teacher, ids, settings, watch }.learn(state, fingerprint)
}

struct Student<'a> {
    network: Network,
    teacher: &'a Encoder,
    ids: &'a [Vec<u32>],
    settings: &'a Recovery,
    watch: &'a Watch<'a>,
}

impl Student<'_> {
    fn learn(mut self, mut state: State, fingerprint: ContentHash) -> Result<Recovered> {
        let steps_per_epoch = self.ids.len().div_ceil(self.settings.batch.max(1)) as u64;
        let pace = Pace {
            began: Instant::now(),
            from: state.optimizer.steps,
            steps: steps_per_epoch * self.settings.epochs as u64,
        };
        let groups = self.groups();
        let mut gradients = Gradients::default();
        self.network.take(&state.parameters);
        while state.epochs.len() < self.settings.epochs {
            self.epoch(&mut state, (&pace, &groups, &mut gradients))?;
            if let Some(folder) = self.watch.checkpoint {
                state.best.clone_from(&state.parameters);
                state.write(folder, fingerprint)?;
            }
        }
        Ok(Recovered {
            tensors: self.network.weights.tensors(&self.network.base),
            distances: state.epochs.iter().map(|epoch| epoch.loss).collect(),
        })
    }

    /// Biases and normalisations do not shrink.
    fn groups(&self) -> Vec<Group> {
        let Recovery { learning_rate: rate, weight_decay: decay, .. } = *self.settings;
        let (mut groups, mut at) = (Vec::new(), 0);
        for range in self.network.weights.decayed() {
            groups.push(Group { range: at..range.start, rate, decay: 0.0 });
            at = range.end;
            groups.push(Group { range, rate, decay });
        }
        groups.push(Group { range: at..self.network.weights.parameters(), rate, decay: 0.0 });
        groups
    }

    fn epoch(
        &mut self,
        state: &mut State,
        (pace, groups, gradients): (&Pace, &[Group], &mut Gradients),
    ) -> Result<()> {
        let began = Instant::now();
        let number = state.epochs.len();
        let texts = self.texts(number);
        let (batch, threads) = (self.settings.batch.max(1), self.settings.threads);
        let (mut distance, mut batches) = (0.0, 0u64);
        // Whole batches, so that the chunks do not show in the result.
        for texts in texts.chunks(TAUGHT_TOGETHER.next_multiple_of(batch)) {
            let targets = self.teacher.embed_ids(texts)?;
            for (texts, targets) in texts.chunks(batch).zip(targets.values.chunks(batch * targets.dimensions))
            {
                if self.watch.stop.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted);
                }
                distance += self.step(state, (texts, targets), gradients)?;
                let share = schedule(state.optimizer.steps, pace.warm_up(), pace.steps);
                let gradient = gradients.sum(threads)?;
                state.optimizer.step(&mut state.parameters, gradient, groups, (share, threads));
                self.network.take(&state.parameters);
                batches += 1;
                (self.watch.progress)(&Progress {
                    training: 1,
                    trainings: 1,
                    step: state.optimizer.steps,
                    steps: pace.steps,
                    epoch: number + 1,
                    loss: distance / batches as f64,
                    accuracy: None,
                    seconds_left: pace.seconds_left(state.optimizer.steps),
                });
            }
        }
        state.epochs.push(EpochSummary {
            loss: distance / batches.max(1) as f64,
            right: 0,
            held_out: 0,
            seconds: began.elapsed().as_secs_f64(),
        });
        Ok(())
    }

    /// The texts of an epoch in its order; most of them begin as one text and end as another.
    fn texts(&self, epoch: usize) -> Vec<Vec<u32>> {
        let mut random = Random(self.settings.seed ^ 0x5e_ed00 ^ (epoch as u64) << 32);
        let mut order: Vec<usize> = (0..self.ids.len()).collect();
        random.shuffle(&mut order);
        let text = |row: usize| self.ids.get(row).map(Vec::as_slice).unwrap_or_default();
        let spliced = order.into_iter().map(|row| {
            let first = text(row);
            if random.below(self.settings.whole_of.max(1)) == 0 {
                return first.to_vec();
            }
            let second = text(random.below(self.ids.len()));
            // Both keep at least their first and their last piece: the special ones.
            let cut = 1 + random.below(first.len().saturating_sub(1).max(1));
            let from = 1 + random.below(second.len().saturating_sub(1).max(1));
            let [head, tail] = [first.get(..cut), second.get(from..)].map(Option::unwrap_or_default);
            match head.len() + tail.len() <= first.len().max(second.len()) && !tail.is_empty() {
                true => [head, tail].concat(),
                false => first.to_vec(),
            }
        });
        spliced.collect()
    }

    /// Goes forward and back with a batch; returns the mean squared distance to the targets.
    fn step(
        &self,
        state: &State,
        (texts, targets): (&[Vec<u32>], &[f32]),
        gradients: &mut Gradients,
    ) -> Result<f64> {
        let dimensions = self.network.dimensions();
        let count = texts.len().div_ceil(PART).max(1);
        gradients.parts.resize_with(count, Mutex::default);
        gradients.parts.truncate(count);
        let parts: Vec<(&[Vec<u32>], &[f32])> =
            texts.chunks(PART).zip(targets.chunks(PART * dimensions)).collect();
        let distances = jobs::run(count, self.settings.threads, |number| {
            let (texts, targets) = *parts.get(number)?;
            let texts_of_part: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
            let tape: Tape =
                self.network.forward(&texts_of_part, &mut Dropout { share: 0.0, random: Random(0) });
            let mut gradient = gradients.parts.get(number)?.lock().ok()?;
            gradient.clear();
            gradient.resize(state.parameters.len(), 0.0);
            let share = 1.0 / (count * PART) as f32;
            let mut slopes = tape.pooled.clone();
            let mut distance = 0.0f64;
            slopes.iter_mut().zip(targets).for_each(|(slope, target)| {
                let off = *slope - target;
                distance += f64::from(off * off);
                *slope = off * share;
            });
            self.network.backward(&tape, &slopes, &state.parameters, &mut gradient);
            Some(distance)
        });
        let distances = distances.ok_or(Error::Internal("a forward pass has a result"))?;
        Ok(distances.iter().sum::<f64>() / texts.len().max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{Family, files},
        *,
    };
    use crate::compress::prune::{KeptLayer, cut};
    use sizewise_models::tensors::{Output, Tensors, write};
    use std::sync::atomic::AtomicBool;

    fn texts() -> Vec<Vec<u32>> {
        let mut random = Random(4);
        let mut text = || {
            let inner: Vec<u32> = (0..2 + random.below(6)).map(|_| 5 + random.below(7) as u32).collect();
            [vec![2], inner, vec![3]].concat()
        };
        (0..48).map(|_| text()).collect()
    }

    /// A different shape in every layer.
    fn kept() -> Vec<KeptLayer> {
        let layer = |from, heads: &[usize], neurons: &[usize]| KeptLayer {
            from,
            heads: heads.to_vec(),
            neurons: neurons.to_vec(),
        };
        vec![
            layer(0, &[1], &[0, 3, 5]),
            layer(1, &[0, 1], &[2, 11]),
            layer(2, &[0], &[7]),
            layer(3, &[1], &[1, 4]),
        ]
    }

    fn pruned(family: Family) -> EncoderFiles<Vec<u8>> {
        let files = files(family, 4, "gelu");
        cut(&files.as_ref(), &BaseWeights::read(&files.as_ref()).unwrap(), &kept()).unwrap()
    }

    /// The same encoder with the columns set to zero that read what the pruned one no longer has.
    fn zeroed(family: Family) -> EncoderFiles<Vec<u8>> {
        let files = files(family, 4, "gelu");
        let base = BaseWeights::read(&files.as_ref()).unwrap();
        let file = Tensors::parse("t", &files.weights[0].1).unwrap();
        let mut outputs = Vec::new();
        for name in file.names() {
            let shape = file.shape(&name).unwrap();
            let mut values = file.floats(&name, &shape).unwrap();
            for (layer, kept) in base.layers.iter().zip(kept()) {
                let columns = shape.last().copied().unwrap();
                let stays = |column: usize| match &name {
                    name if *name == format!("{}.weight", layer.attention_out.name) => {
                        kept.heads.contains(&(column / 4))
                    }
                    name if *name == format!("{}.weight", layer.down.name) => kept.neurons.contains(&column),
                    _ => true,
                };
                for (at, value) in values.iter_mut().enumerate() {
                    *value *= f32::from(u8::from(stays(at % columns)));
                }
            }
            outputs.push(Output::floats(&name, &shape, &values));
        }
        EncoderFiles { weights: vec![("t".into(), write("t", &outputs).unwrap())], ..files }
    }

    #[test]
    fn a_pruned_encoder_is_the_whole_one_with_zeros_in_its_place() {
        for family in Family::ALL {
            let (pruned, zeroed) = (pruned(family), zeroed(family));
            let embed = |files: &EncoderFiles<Vec<u8>>| {
                Encoder::from_files(&files.as_ref()).unwrap().embed_ids(&texts()).unwrap().values
            };
            let (found, expected) = (embed(&pruned), embed(&zeroed));
            assert!(found.iter().zip(&expected).all(|(x, y)| (x - y).abs() < 1e-5));
            let network = Network::new(BaseWeights::read(&pruned.as_ref()).unwrap(), &Method::Full);
            let texts = texts();
            let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
            let trained = network.forward(&texts, &mut Dropout { share: 0.0, random: Random(0) }).pooled;
            assert!(trained.iter().zip(&expected).all(|(x, y)| (x - y).abs() < 1e-4));
            // In bytes it is the same within rounding.
            let weights = crate::quantize::weights(&pruned.as_ref(), &BTreeMap::new()).unwrap();
            let bytes = embed(&EncoderFiles { weights: vec![("t".into(), weights)], ..pruned });
            let dimensions = network.dimensions();
            for (found, expected) in bytes.chunks(dimensions).zip(expected.chunks(dimensions)) {
                assert!(super::super::floats::dot(found, expected) > 0.99);
            }
        }
    }

    #[test]
    fn slopes_of_a_pruned_encoder_are_those_of_the_function() {
        for family in [Family::Bert, Family::Modern] {
            check_slopes(&pruned(family));
        }
    }

    fn check_slopes(pruned: &EncoderFiles<Vec<u8>>) {
        let mut network = Network::new(BaseWeights::read(&pruned.as_ref()).unwrap(), &Method::Full);
        let parameters = network.weights.initial(1);
        let texts = texts();
        let texts: Vec<&[u32]> = texts.iter().take(3).map(Vec::as_slice).collect();
        let none = || Dropout { share: 0.0, random: Random(0) };
        let mut random = Random(6);
        let tape = network.forward(&texts, &mut none());
        let wanted: Vec<f32> = tape.pooled.iter().map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect();
        let mut gradient = vec![0.0; parameters.len()];
        network.backward(&tape, &wanted, &parameters, &mut gradient);
        let mut loss = |at: usize, by: f32| {
            let mut moved = parameters.clone();
            moved[at] += by;
            network.weights.take(&moved);
            let found = network.forward(&texts, &mut none()).pooled;
            found.iter().zip(&wanted).map(|(x, y)| f64::from(x * y)).sum::<f64>()
        };
        for (at, found) in gradient.iter().enumerate() {
            let exact = (loss(at, 4e-3) - loss(at, -4e-3)) / 8e-3;
            assert!((exact - f64::from(*found)).abs() < 3e-3 + 0.02 * exact.abs(), "{at}: {exact} {found}");
        }
    }

    #[test]
    fn what_nobody_reads_does_not_matter() {
        let stop = AtomicBool::new(false);
        let watch = Watch { progress: &|_| (), stop: &stop, checkpoint: None, resume: false };
        let score =
            |threads| importance(&zeroed(Family::Bert).as_ref(), &texts(), (1, threads), &watch).unwrap();
        let found = score(1);
        assert_eq!(found, score(3));
        for (layer, kept) in kept().iter().enumerate() {
            for (scores, kept) in [(&found.heads[layer], &kept.heads), (&found.neurons[layer], &kept.neurons)]
            {
                for (part, score) in scores.iter().enumerate() {
                    assert_eq!(*score > 0.0, kept.contains(&part), "layer {layer}: {part}");
                }
            }
        }
    }

    #[test]
    fn recovery_goes_on_bit_for_bit_and_comes_nearer() {
        let base = files(Family::Bert, 4, "gelu");
        let teacher = Encoder::from_files(&base.as_ref()).unwrap();
        let student = pruned(Family::Bert);
        let settings = |threads| Recovery {
            epochs: 8,
            learning_rate: 3e-3,
            batch: 16,
            weight_decay: 0.01,
            whole_of: 2,
            seed: 1,
            threads,
        };
        let stop = AtomicBool::new(false);
        let watch = Watch { progress: &|_| (), stop: &stop, checkpoint: None, resume: false };
        let once = recover(&teacher, &student.as_ref(), &texts(), &settings(1), &watch).unwrap();
        assert!(once.distances[7] < 0.7 * once.distances[0], "{:?}", once.distances);
        let folder = tempfile::tempdir().unwrap();
        let interrupt = |progress: &Progress| {
            if progress.epoch == 4 {
                stop.store(true, Ordering::Relaxed);
            }
        };
        let watch = Watch { progress: &interrupt, checkpoint: Some(folder.path()), ..watch };
        let cut_off = recover(&teacher, &student.as_ref(), &texts(), &settings(2), &watch);
        assert!(matches!(cut_off, Err(Error::Interrupted)));
        stop.store(false, Ordering::Relaxed);
        let watch = Watch { progress: &|_| (), resume: true, ..watch };
        let resumed = recover(&teacher, &student.as_ref(), &texts(), &settings(3), &watch).unwrap();
        assert_eq!(resumed.tensors, once.tensors);
        let other = Recovery { seed: 2, ..settings(1) };
        let refused = recover(&teacher, &student.as_ref(), &texts(), &other, &watch).unwrap_err();
        assert!(refused.to_string().contains("other rows, settings or weights"), "{refused}");
    }
}
