//! Does what is left of an encoder run, and is it chosen as promised?

use super::{
    prune::{self, EIGHTHS, Outline},
    *,
};
use crate::{
    adapt::{
        recover::Importance,
        tests::{Family, files},
    },
    dataset::{Dataset, TrainingRows},
    fit::Random,
    onnx, quantize,
};
use sizewise_contract::{ClassLabel, ContentHash, Embed, Example, Gold, Task, task::Overflow};
use sizewise_models::{
    builtin,
    encoder::{BaseWeights, Encoder, EncoderFiles},
    tensors::{Dtype, Output, Tensors, write},
};
use std::sync::atomic::{AtomicBool, Ordering};

/// The same files with tensors of other shapes in place of some.
fn with(files: &EncoderFiles<Vec<u8>>, replaced: &[(&str, &[usize])]) -> EncoderFiles<Vec<u8>> {
    let file = Tensors::parse("t", &files.weights[0].1).unwrap();
    let mut outputs = Vec::new();
    for name in file.names() {
        let shape = match replaced.iter().find(|(replaced, _)| *replaced == name) {
            Some((_, shape)) => shape.to_vec(),
            None => file.shape(&name).unwrap(),
        };
        outputs.push(Output::floats(&name, &shape, &vec![0.5; shape.iter().product()]));
    }
    EncoderFiles { weights: vec![("t".into(), write("t", &outputs).unwrap())], ..files.clone() }
}

#[test]
fn shapes_that_do_not_fit_are_refused_by_name() {
    let files = files(Family::Bert, 3, "gelu");
    let layer = |part: &str| format!("encoder.layer.1.{part}");
    // Hidden 8, two heads of 4, 12 neurons.
    for (part, shape, named) in [
        ("attention.self.query.weight", &[6, 8][..], "attention.self.query.weight"),
        ("attention.self.query.weight", &[12, 8], "attention.self.query.weight"),
        ("attention.self.query.weight", &[0, 8], "attention.self.query.weight"),
        ("attention.self.query.weight", &[64], "attention.self.query.weight"),
        ("attention.self.query.weight", &[4, 8], "attention.self.query.bias"),
        ("attention.self.key.weight", &[4, 8], "attention.self.key.weight"),
        ("attention.output.dense.weight", &[8, 4], "attention.output.dense.weight"),
        ("intermediate.dense.weight", &[13, 8], "intermediate.dense.weight"),
        ("intermediate.dense.weight", &[0, 8], "intermediate.dense.weight"),
        ("intermediate.dense.weight", &[6, 7], "intermediate.dense.weight"),
        ("intermediate.dense.bias", &[6], "intermediate.dense.bias"),
        ("output.dense.weight", &[8, 6], "output.dense.weight"),
    ] {
        let hostile = with(&files, &[(&layer(part), shape)]);
        let named = layer(named);
        let error = Encoder::from_files(&hostile.as_ref()).unwrap_err().to_string();
        assert!(error.contains(&named), "{part} {shape:?}: {error}");
        let error = BaseWeights::read(&hostile.as_ref()).unwrap_err().to_string();
        assert!(error.contains(&named), "{part} {shape:?}: {error}");
    }
}

/// The same encoder with other weights.
fn with_weights(files: &EncoderFiles<&[u8]>, weights: Vec<u8>) -> EncoderFiles<Vec<u8>> {
    EncoderFiles {
        config: files.config.to_vec(),
        tokenizer: files.tokenizer.to_vec(),
        pooling: files.pooling.map(<[u8]>::to_vec),
        prompts: None,
        weights: vec![("model.safetensors".into(), weights)],
    }
}

fn in_4_bits(files: &EncoderFiles<&[u8]>) -> EncoderFiles<Vec<u8>> {
    with_weights(files, quantize::in_4_bits(files).unwrap())
}

#[test]
fn an_encoder_in_4_bits_is_the_bytes_that_it_stands_for_wherever_it_is_read() {
    for family in Family::ALL {
        let whole = files(family, 4, "gelu");
        let four = in_4_bits(&whole.as_ref());
        let (name, bytes) = &four.weights[0];
        let file = Tensors::parse(name, bytes).unwrap();
        let mut outputs = Vec::new();
        for tensor in file.names().iter().filter(|tensor| !file.is_part(tensor)) {
            let shape = file.matrix_shape(tensor).unwrap();
            if file.is_in_bytes(tensor).unwrap() {
                let (bytes, scales) = file.matrix_bytes(tensor, (shape[0], shape[1])).unwrap();
                outputs.push(Output::bytes(tensor, &shape, &bytes));
                outputs.push(Output::floats(&format!("{tensor}.scale"), &shape[..1], &scales));
            } else {
                outputs.push(Output::floats(tensor, &shape, &file.floats(tensor, &shape).unwrap()));
            }
        }
        // The matrices of each layer, and the words.
        let matrices = if family == Family::Modern { 4 } else { 6 };
        let in_4 = file.names().iter().filter(|tensor| file.dtype(tensor).unwrap() == Dtype::U8).count();
        assert_eq!(in_4, 4 * matrices + 1);
        let bytes = with_weights(&whole.as_ref(), write("t", &outputs).unwrap());
        let embed = |files: &EncoderFiles<Vec<u8>>| {
            let encoder = Encoder::from_files(&files.as_ref()).unwrap();
            encoder.embed_ids(&[vec![2, 5, 6, 7, 3], vec![2, 9, 3]]).unwrap()
        };
        assert_eq!(embed(&four), embed(&bytes));
        assert_eq!(onnx::graph(&four.as_ref()).unwrap(), onnx::graph(&bytes.as_ref()).unwrap());
        let floats = |files: &EncoderFiles<Vec<u8>>| quantize::to_floats("t", &files.weights[0].1).unwrap();
        assert_eq!(floats(&four), floats(&bytes));
        // Nothing is rounded twice.
        assert_eq!(in_4_bits(&four.as_ref()).weights[0].1, four.weights[0].1);
        let eight = quantize::weights(&four.as_ref(), &std::collections::BTreeMap::new()).unwrap();
        assert_eq!(embed(&with_weights(&four.as_ref(), eight)), embed(&four));
    }
}

#[test]
fn damaged_weights_in_4_bits_are_refused_by_name() {
    let four = in_4_bits(&files(Family::Bert, 3, "gelu").as_ref());
    let layer = |part: &str| format!("encoder.layer.1.{part}");
    for (part, damaged, named) in [
        ("attention.self.query.weight", Output::octets("", &[6, 4], &[0; 24]), "attention.self.query.weight"),
        ("attention.self.key.weight", Output::octets("", &[8, 3], &[0; 24]), "attention.self.key.weight"),
        ("output.dense.weight", Output::octets("", &[8, 7], &[0; 56]), "output.dense.weight"),
        ("output.dense.weight.steps", Output::bytes("", &[8, 2], &[0; 16]), "output.dense.weight.steps"),
        (
            "intermediate.dense.weight.steps",
            Output::octets("", &[12, 1], &[0; 12]),
            "intermediate.dense.weight.steps",
        ),
        (
            "intermediate.dense.weight.scale",
            Output::floats("", &[12], &[f32::NAN; 12]),
            "intermediate.dense.weight.scale",
        ),
    ] {
        let (name, bytes) = &four.weights[0];
        let file = Tensors::parse(name, bytes).unwrap();
        let mut damaged = Some(damaged.named(&layer(part)));
        let outputs: Vec<Output> = file
            .names()
            .iter()
            .map(|tensor| match damaged.take_if(|_| *tensor == layer(part)) {
                Some(damaged) => damaged,
                None => file.copy(tensor).unwrap(),
            })
            .collect();
        let hostile = with_weights(&four.as_ref(), write("t", &outputs).unwrap());
        let error = Encoder::from_files(&hostile.as_ref()).unwrap_err().to_string();
        assert!(error.contains(&layer(named)), "{part}: {error}");
        let error = BaseWeights::read(&hostile.as_ref()).unwrap_err().to_string();
        assert!(error.contains(&layer(named)), "{part}: {error}");
    }
}

#[test]
fn the_built_in_encoder_is_little_more_than_half_as_long_in_4_bits() {
    let files = builtin::encoder_files();
    let four = in_4_bits(&files);
    let [before, after] = [files.weights[0].1.len(), four.weights[0].1.len()];
    assert!(after < before * 14 / 25, "{after} of {before}");
    let (whole, four) = (Encoder::from_files(&files).unwrap(), Encoder::from_files(&four.as_ref()).unwrap());
    let texts = ["my card was swallowed by a cash machine in heidelberg", "où est ma carte"];
    let embed = |encoder: &Encoder| encoder.embed(&texts, Overflow::Error).unwrap();
    for (before, after) in embed(&whole).rows().zip(embed(&four).rows()) {
        let cosine: f32 = before.iter().zip(after).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.95, "{cosine}");
    }
    // A trimmed table keeps its numbers, steps and scales.
    let four = in_4_bits(&files);
    let (ids, _) = whole.sequences(&texts, Overflow::Error).unwrap();
    let trimmed = vocabulary::trim(&four.as_ref(), &ids).unwrap().unwrap();
    let embed = |files: &EncoderFiles<Vec<u8>>| {
        Encoder::from_files(&files.as_ref()).unwrap().embed(&texts, Overflow::Error).unwrap()
    };
    assert_eq!(embed(&trimmed), embed(&four));
}

fn even(base: &BaseWeights) -> Importance {
    let mut random = Random(3);
    let mut scores = |count: usize| (0..count).map(|_| random.below(1_000) as f64).collect::<Vec<f64>>();
    let heads = base.layers.iter().map(|layer| scores(layer.shape.heads)).collect();
    Importance { heads, neurons: base.layers.iter().map(|layer| scores(layer.shape.intermediate)).collect() }
}

#[test]
fn thirds_of_a_smaller_stack_end_where_those_of_the_whole_one_did() {
    let files = builtin::encoder_files();
    let base = BaseWeights::read(&files).unwrap();
    let layers = |layers| {
        let kept = prune::choose(&base, Outline { layers, eighths: EIGHTHS }, &even(&base)).unwrap();
        kept.iter().map(|layer| layer.from).collect::<Vec<_>>()
    };
    assert_eq!(layers(6), [0, 1, 2, 3, 4, 5]);
    assert_eq!(layers(4), [1, 3, 4, 5]);
    assert_eq!(layers(3), [1, 3, 5]);
    assert!(prune::choose(&base, Outline { layers: 2, eighths: EIGHTHS }, &even(&base)).is_err());
}

#[test]
fn narrow_layers_fill_panels_and_none_is_empty() {
    let files = builtin::encoder_files();
    let base = BaseWeights::read(&files).unwrap();
    let kept = prune::choose(&base, Outline { layers: 6, eighths: 4 }, &even(&base)).unwrap();
    assert_eq!(kept.iter().map(|layer| layer.neurons.len()).sum::<usize>(), 6 * 1536 / 2);
    assert_eq!(kept.iter().map(|layer| layer.heads.len()).sum::<usize>(), 6 * 12 / 2);
    for layer in &kept {
        assert!(layer.neurons.len().is_multiple_of(64) && !layer.neurons.is_empty());
        assert!(layer.heads.len().is_multiple_of(2) && !layer.heads.is_empty());
        assert!(layer.neurons.is_sorted() && layer.heads.is_sorted());
    }
    let cut = prune::cut(&files, &base, &kept).unwrap();
    assert!(!cut.as_ref().narrowed_layers().unwrap().is_empty());
    Encoder::from_files(&cut.as_ref()).unwrap();
    let graph = onnx::graph(&cut.as_ref()).unwrap();
    for layer in &kept {
        let name = format!("shape.heads.{}", layer.heads.len());
        assert!(graph.windows(name.len()).any(|part| part == name.as_bytes()), "{name}");
    }
    let deep = prune::choose(&base, Outline { layers: 3, eighths: EIGHTHS }, &even(&base)).unwrap();
    let deep = prune::cut(&files, &base, &deep).unwrap();
    assert_eq!(deep.as_ref().narrowed_layers().unwrap(), [0usize; 0]);
}

#[test]
fn a_trimmed_vocabulary_reads_its_texts_as_before_and_cuts_other_words_smaller() {
    let files = builtin::encoder_files();
    let whole = Encoder::from_files(&files).unwrap();
    let texts = ["my card was swallowed by a cash machine in heidelberg", "où est ma carte 我"];
    let (ids, _) = whole.sequences(&texts, Overflow::Error).unwrap();
    let trimmed = vocabulary::trim(&files, &ids).unwrap().unwrap();
    let small = Encoder::from_files(&trimmed.as_ref()).unwrap();
    assert!(small.tokenizer().ids() < whole.tokenizer().ids() / 2);
    assert!(trimmed.weights[0].1.len() < files.weights[0].1.len() * 3 / 4);
    assert_eq!(small.embed(&texts, Overflow::Error).unwrap(), whole.embed(&texts, Overflow::Error).unwrap());
    let rare = "photosynthesis";
    assert!(small.count_tokens(rare) > whole.count_tokens(rare));
    let mut ids = Vec::new();
    small.tokenizer().encode_into(rare, &mut ids);
    assert!(!ids.contains(&small.tokenizer().unknown().unwrap()));
    // What is trimmed once stays as it is.
    let (ids, _) = small.sequences(&texts, Overflow::Error).unwrap();
    let again = vocabulary::trim(&trimmed.as_ref(), &ids).unwrap().unwrap();
    assert!(Encoder::from_files(&again.as_ref()).unwrap().tokenizer().ids() <= small.tokenizer().ids());
}

/// Texts whose class is whether they begin with an animal.
fn rows() -> TrainingRows {
    let mut random = Random(2);
    let examples = (0..160u64)
        .map(|row| {
            let class = random.below(2);
            let (animal, number) = (["cat", "dog"][random.below(2)], ["one", "two"][random.below(2)]);
            let colour = ["red", "green", "blue"][random.below(3)];
            let text = if class == 0 {
                format!("{animal} {number} {colour}")
            } else {
                format!("{number} {animal} {colour}")
            };
            let labels = vec![Some(Gold(ClassLabel::Class(class as u16)))];
            Example { row, text, labels, group: Some(row.to_string()), time: None }
        })
        .collect();
    TrainingRows::Gold(Dataset { examples, hash: ContentHash::of(b"") })
}

fn task() -> Task {
    Task::parse(
        "schema = 1\nname = \"toy\"\n[[question]]\nname = \"label\"\ntype = \"choice\"\nchoices = [{ value = \"a\" }, { value = \"b\" }]\n",
    )
    .unwrap()
}

#[test]
fn the_most_accurate_variant_within_the_bound_is_taken_and_an_interrupted_search_goes_on() {
    let base = files(Family::Bert, 4, "gelu");
    let (task, rows) = (task(), rows());
    let unseen = unseen(&rows, 1);
    let folder = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let whole = base.weights[0].1.len() as u64;
    let settings = Settings {
        bound: Bound { max_bytes: Some(whole), ..Bound::default() },
        epochs: Some(3),
        threads: 2,
        ..Settings::new(Bound::default())
    };
    let interrupt = |progress: &Progress| {
        if progress.step.starts_with("recover 3") && progress.done > 5 {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let quiet = Watch { progress: &|_| (), stop: &stop, checkpoint: None, resume: false };
    let run = |watch: &Watch<'_>, settings: &Settings| {
        compress(&base.as_ref(), (&task, &rows, &unseen), settings, watch)
    };
    let once = run(&quiet, &settings).unwrap();
    let watch = Watch { progress: &interrupt, checkpoint: Some(folder.path()), ..quiet };
    assert!(matches!(run(&watch, &settings), Err(crate::Error::Interrupted)));
    stop.store(false, Ordering::Relaxed);
    let resumed = run(&Watch { progress: &|_| (), resume: true, ..watch }, &settings).unwrap();
    let answers = |found: &Compressed| -> Vec<_> {
        found.variants.iter().map(|v| (v.outline, v.bits, v.bytes, v.accuracy)).collect()
    };
    assert_eq!(answers(&once), answers(&resumed));
    let chosen = once.chosen().unwrap();
    assert!(chosen.within && chosen.bytes <= whole);
    let right = |variant: &Variant| variant.accuracy.map_or(0, |share| share.count);
    assert!(once.variants.iter().filter(|v| v.within).all(|v| right(v) <= right(chosen)));
    assert!(once.variants.iter().any(|variant| variant.outline.layers == 3));
    // The whole encoder and every outline are judged in 4 bits as well.
    let forms = |bits: u8| once.variants.iter().filter(move |variant| variant.bits == bits);
    let outlines: Vec<Outline> = forms(4).map(|variant| variant.outline).collect();
    assert!(outlines.len() > 1 && forms(8).all(|variant| outlines.contains(&variant.outline)));
    assert!(forms(4).all(|variant| variant.accuracy.is_some() && variant.difference.is_some()));
    Encoder::from_files(&once.files.as_ref()).unwrap();
    let impossible = Settings { bound: Bound { max_bytes: Some(10), ..Bound::default() }, ..settings };
    let error = run(&quiet, &impossible).unwrap_err();
    assert!(error.to_string().contains("no variant keeps to the bound"), "{error}");
}
