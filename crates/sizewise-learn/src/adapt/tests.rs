//! Does training compute what it should, whatever the threads and interruptions?
//!
//! On encoders of a few layers with random weights, of every family that is trained.

use super::{
    network::{Dropout, Network},
    *,
};
use crate::fit::Random;
use sizewise_contract::Embed;
use std::sync::atomic::Ordering;

const HIDDEN: usize = 8;
const WIDE: usize = 12;
const WORDS: [&str; 12] =
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "green", "blue", "cat", "dog", "one", "two"];

/// Whose names and layers an encoder has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Family {
    Bert,
    Distil,
    Modern,
}

impl Family {
    pub(crate) const ALL: [Self; 3] = [Self::Bert, Self::Distil, Self::Modern];

    /// What the names of layers begin with.
    fn layer(self) -> &'static str {
        match self {
            Self::Bert => "encoder.layer",
            Self::Distil => "transformer.layer",
            Self::Modern => "model.layers",
        }
    }

    /// The matrices of a layer with their rows and columns.
    fn matrices(self) -> Vec<(&'static str, usize, usize)> {
        let square = |names: [&'static str; 4]| names.map(|name| (name, HIDDEN, HIDDEN)).to_vec();
        match self {
            Self::Bert => {
                let attention = [
                    "attention.self.query",
                    "attention.self.key",
                    "attention.self.value",
                    "attention.output.dense",
                ];
                let wide = vec![("intermediate.dense", WIDE, HIDDEN), ("output.dense", HIDDEN, WIDE)];
                [square(attention), wide].concat()
            }
            Self::Distil => {
                let attention =
                    ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"];
                [square(attention), vec![("ffn.lin1", WIDE, HIDDEN), ("ffn.lin2", HIDDEN, WIDE)]].concat()
            }
            Self::Modern => vec![
                ("attn.Wqkv", 3 * HIDDEN, HIDDEN),
                ("attn.Wo", HIDDEN, HIDDEN),
                ("mlp.Wi", 2 * WIDE, HIDDEN),
                ("mlp.Wo", HIDDEN, WIDE),
            ],
        }
    }

    /// The norms at attention and at the feed-forward matrices.
    fn norms(self) -> [&'static str; 2] {
        match self {
            Self::Bert => ["attention.output.LayerNorm", "output.LayerNorm"],
            Self::Distil => ["sa_layer_norm", "output_layer_norm"],
            Self::Modern => ["attn_norm", "mlp_norm"],
        }
    }

    fn config(self, layers: usize, activation: &str) -> String {
        let sizes = format!(
            r#""vocab_size":{},"max_position_embeddings":16,"hidden_size":{HIDDEN},"num_hidden_layers":{layers},"num_attention_heads":2,"intermediate_size":{WIDE}"#,
            WORDS.len()
        );
        match self {
            Self::Bert => format!(
                r#"{{"model_type":"bert",{sizes},"hidden_act":"{activation}","layer_norm_eps":1e-12}}"#
            ),
            Self::Distil => format!(
                r#"{{"model_type":"distilbert","vocab_size":{},"max_position_embeddings":16,"dim":{HIDDEN},"n_layers":{layers},"n_heads":2,"hidden_dim":{WIDE},"activation":"{activation}"}}"#,
                WORDS.len()
            ),
            // Every second layer sees two tokens to either side.
            Self::Modern => format!(
                r#"{{"model_type":"modernbert",{sizes},"hidden_activation":"{activation}","norm_eps":1e-5,"local_attention":4,"global_attn_every_n_layers":2,"global_rope_theta":100.0,"local_rope_theta":20.0}}"#
            ),
        }
    }
}

/// An encoder with random weights.
pub(crate) fn files(family: Family, layers: usize, activation: &str) -> EncoderFiles<Vec<u8>> {
    let mut random = Random(17);
    let mut values = |count: usize, width: f32| -> Vec<f32> {
        (0..count).map(|_| (random.below(2001) as f32 / 1000.0 - 1.0) * width).collect()
    };
    let is_modern = family == Family::Modern;
    let mut outputs = Vec::new();
    let mut add =
        |name: &str, shape: &[usize], values: Vec<f32>| outputs.push(Output::floats(name, shape, &values));
    let words = if is_modern { "model.embeddings.tok_embeddings" } else { "embeddings.word_embeddings" };
    add(&format!("{words}.weight"), &[WORDS.len(), HIDDEN], values(WORDS.len() * HIDDEN, 1.0));
    if !is_modern {
        add("embeddings.position_embeddings.weight", &[16, HIDDEN], values(16 * HIDDEN, 0.3));
    }
    if family == Family::Bert {
        add("embeddings.token_type_embeddings.weight", &[2, HIDDEN], values(2 * HIDDEN, 0.3));
    }
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    if is_modern {
        norms = vec!["model.embeddings.norm".into(), "model.final_norm".into()];
    }
    for layer in 0..layers {
        let prefix = format!("{}.{layer}", family.layer());
        for (name, rows, columns) in family.matrices() {
            add(&format!("{prefix}.{name}.weight"), &[rows, columns], values(rows * columns, 0.5));
            if !is_modern {
                add(&format!("{prefix}.{name}.bias"), &[rows], values(rows, 0.1));
            }
        }
        let skipped = usize::from(is_modern && layer == 0);
        norms.extend(family.norms().iter().skip(skipped).map(|name| format!("{prefix}.{name}")));
    }
    for name in norms {
        add(&format!("{name}.weight"), &[HIDDEN], values(HIDDEN, 0.2).iter().map(|x| 1.0 + x).collect());
        if !is_modern {
            add(&format!("{name}.bias"), &[HIDDEN], values(HIDDEN, 0.1));
        }
    }
    let vocabulary: Vec<String> =
        WORDS.iter().enumerate().map(|(id, word)| format!("{word:?}:{id}")).collect();
    let config = family.config(layers, activation);
    let tokenizer = format!(
        r#"{{"version":"1.0","normalizer":{{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}},"pre_tokenizer":{{"type":"BertPreTokenizer"}},"model":{{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"{}","max_input_chars_per_word":100,"vocab":{{{}}}}}}}"#,
        "##",
        vocabulary.join(",")
    );
    EncoderFiles {
        config: config.into_bytes(),
        tokenizer: tokenizer.into_bytes(),
        pooling: None,
        prompts: None,
        weights: vec![("model.safetensors".into(), tensors::write("test/1", &outputs).unwrap())],
    }
}

fn none() -> Dropout {
    Dropout { share: 0.0, random: Random(0) }
}

fn texts() -> Vec<Vec<u32>> {
    vec![vec![2, 5, 8, 3], vec![2, 6, 9, 10, 11, 7, 3], vec![2, 3]]
}

#[test]
fn the_training_form_embeds_as_the_run_time_form_does() {
    for (family, layers, activation) in [
        (Family::Bert, 2, "gelu"),
        (Family::Distil, 3, "gelu"),
        (Family::Bert, 4, "gelu_new"),
        (Family::Distil, 1, "relu"),
        (Family::Modern, 1, "gelu"),
        (Family::Modern, 4, "gelu"),
        (Family::Modern, 3, "relu"),
    ] {
        let files = files(family, layers, activation);
        let expected = Encoder::from_files(&files.as_ref()).unwrap().embed_ids(&texts()).unwrap();
        let network = Network::new(BaseWeights::read(&files.as_ref()).unwrap(), &Method::Full);
        let texts = texts();
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let found = network.forward(&texts, &mut none()).pooled;
        assert_eq!(found.len(), expected.values.len());
        assert!(found.iter().zip(&expected.values).all(|(x, y)| (x - y).abs() < 1e-4), "{activation}");
    }
}

#[test]
fn the_built_in_encoder_embeds_alike_in_both_forms() {
    let files = sizewise_models::builtin::encoder_files();
    let encoder = Encoder::from_files(&files).unwrap();
    let ids = ids(&encoder, "my card was stolen and I need a new one").unwrap();
    let expected = encoder.embed(&["my card was stolen and I need a new one"], Overflow::Error).unwrap();
    let network = Network::new(BaseWeights::read(&files).unwrap(), &Method::Head);
    let found = network.forward(&[&ids], &mut none()).pooled;
    // The run-time form rounds activations to bytes.
    assert!(floats::dot(&found, &expected.values) > 0.998);
}

/// The slope of a sum of weighted vectors by every parameter, against finite differences.
fn check_slopes(method: &Method, dropout: f32, family: Family) {
    let files = files(family, 3, "gelu");
    let mut network = Network::new(BaseWeights::read(&files.as_ref()).unwrap(), method);
    let mut parameters = network.weights.initial(3);
    let mut random = Random(5);
    if matches!(method, Method::Lora { .. }) {
        parameters.iter_mut().for_each(|value| *value += random.below(2001) as f32 / 5000.0 - 0.2);
    }
    network.weights.take(&parameters);
    let texts = texts();
    let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let wanted: Vec<f32> =
        (0..texts.len() * network.dimensions()).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect();
    let chance = || Dropout { share: dropout, random: Random(8) };
    let mut gradient = vec![0.0; parameters.len()];
    let tape = network.forward(&texts, &mut chance());
    network.backward(&tape, &wanted, &parameters, &mut gradient);
    assert!(gradient.iter().any(|slope| slope.abs() > 1e-2));
    let mut loss = |at: usize, by: f32| {
        let mut moved = parameters.clone();
        moved[at] += by;
        network.weights.take(&moved);
        let found = network.forward(&texts, &mut chance()).pooled;
        found.iter().zip(&wanted).map(|(x, y)| f64::from(x * y)).sum::<f64>()
    };
    for (at, found) in gradient.iter().enumerate() {
        let exact = (loss(at, 4e-3) - loss(at, -4e-3)) / 8e-3;
        let found = f64::from(*found);
        assert!((exact - found).abs() < 3e-3 + 0.02 * exact.abs(), "{method:?} {at}: {exact} {found}");
    }
}

#[test]
fn slopes_of_all_weights_are_those_of_the_function() {
    check_slopes(&Method::Full, 0.0, Family::Bert);
    check_slopes(&Method::Full, 0.2, Family::Distil);
    check_slopes(&Method::Full, 0.1, Family::Modern);
    check_slopes(&Method::LastLayers(1), 0.0, Family::Bert);
    check_slopes(&Method::LastLayers(2), 0.0, Family::Modern);
}

#[test]
fn slopes_of_low_rank_changes_are_those_of_the_function() {
    check_slopes(&Settings::lora(2), 0.0, Family::Bert);
    check_slopes(&Settings::lora(2), 0.0, Family::Modern);
    let some = Method::Lora { rank: 3, alpha: 1.0, matrices: vec![LoraMatrix::Value, LoraMatrix::Down] };
    check_slopes(&some, 0.1, Family::Distil);
}

#[test]
fn brain_floating_point_gives_nearly_the_slopes_of_32_bits() {
    let files = sizewise_models::builtin::encoder_files();
    let encoder = Encoder::from_files(&files).unwrap();
    let texts =
        ["my card was stolen", "how do I top up?", "I would like a refund for the shoes of last week"];
    let texts: Vec<Vec<u32>> = texts.iter().map(|text| ids(&encoder, text).unwrap()).collect();
    let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let cosine = |a: &[f32], b: &[f32]| floats::dot(a, b) / (floats::dot(a, a) * floats::dot(b, b)).sqrt();
    for method in [Method::Full, Method::LastLayers(2)] {
        let exact = Network::new(BaseWeights::read(&files).unwrap(), &method);
        let mut rounded =
            Network::new(BaseWeights::read(&files).unwrap(), &method).with_precision(Precision::BFloat16, 2);
        let mut random = Random(5);
        let moved = |value: &f32, random: &mut Random| value + random.below(201) as f32 / 1e5 - 1e-3;
        let parameters: Vec<f32> =
            exact.weights.initial(3).iter().map(|value| moved(value, &mut random)).collect();
        let mut exact = exact;
        exact.take(&parameters);
        rounded.take(&parameters);
        let slopes: Vec<f32> =
            (0..texts.len() * exact.dimensions()).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect();
        let both = [&exact, &rounded].map(|network| {
            let tape = network.forward(&texts, &mut none());
            let mut gradient = vec![0.0; parameters.len()];
            network.backward(&tape, &slopes, &parameters, &mut gradient);
            (tape.pooled, gradient)
        });
        let [(vectors, gradient), (rounded_vectors, rounded_gradient)] = &both;
        assert_ne!(vectors, rounded_vectors);
        let alike = (cosine(vectors, rounded_vectors), cosine(gradient, rounded_gradient));
        assert!(alike.0 > 0.9999 && alike.1 > 0.999, "{method:?} {alike:?}");
    }
}

/// Texts whose class is whether an animal comes before a number.
fn toy() -> (Vec<Vec<u32>>, Vec<Question>) {
    let mut random = Random(2);
    let (mut ids, mut targets) = (Vec::new(), Vec::new());
    for _ in 0..160 {
        let class = random.below(2);
        let (animal, number) = (8 + random.below(2) as u32, 10 + random.below(2) as u32);
        let mut pair = if class == 0 { vec![animal, number] } else { vec![number, animal] };
        pair.insert(random.below(3), 5 + random.below(3) as u32);
        ids.push([vec![2], pair, vec![3]].concat());
        targets.push(Some(Target::Class(class as u16)));
    }
    (ids, vec![Question { targets, class_weights: vec![1.0; 2] }])
}

fn toy_settings(method: Method) -> Settings {
    Settings {
        epochs: 20,
        learning_rate: 3e-3,
        head_learning_rate: 3e-3,
        temperature: None,
        dropout: 0.0,
        ..Settings::new(method, 10_000, 2)
    }
}

fn run(settings: &Settings, watch: &Watch<'_>) -> Result<Adapted> {
    run_of(Family::Bert, settings, watch)
}

fn run_of(family: Family, settings: &Settings, watch: &Watch<'_>) -> Result<Adapted> {
    let (ids, questions) = toy();
    let rows = Rows {
        ids: &ids,
        questions: &questions,
        train: (0..128).collect(),
        held_out: (128..160).collect(),
        choose: true,
    };
    train(&files(family, 3, "gelu").as_ref(), &rows, settings, watch)
}

#[test]
fn a_toy_task_is_learnt_by_every_method() {
    let stop = AtomicBool::new(false);
    let watch = Watch { progress: &|_| (), stop: &stop, checkpoint: None, resume: false };
    use Precision::{BFloat16, Float32};
    for (family, method, temperature, precision) in [
        (Family::Bert, Method::Full, None, Float32),
        (Family::Bert, Settings::lora(4), None, Float32),
        (Family::Bert, Method::LastLayers(2), None, Float32),
        (Family::Bert, Method::Full, Some(0.1), Float32),
        (Family::Bert, Method::Full, None, BFloat16),
        (Family::Bert, Settings::lora(4), None, BFloat16),
        (Family::Modern, Method::Full, None, Float32),
        (Family::Modern, Settings::lora(4), None, BFloat16),
    ] {
        let settings = Settings { temperature, precision, ..toy_settings(method) };
        let adapted = run_of(family, &settings, &watch).unwrap();
        let (first, last) = (adapted.epochs[1], adapted.epochs.last().unwrap());
        assert!(last.loss < 0.85 * first.loss, "{settings:?} {:?}", adapted.epochs);
        // Pairs alone do not make classes linear on so small an encoder.
        assert!(temperature.is_some() || last.right >= 30, "{settings:?} {:?}", adapted.epochs);
        let base = files(family, 3, "gelu");
        let encoder = Encoder::from_files(&adapted.files(&base.as_ref()).unwrap().as_ref()).unwrap();
        assert_ne!(encoder.hash(), Encoder::from_files(&base.as_ref()).unwrap().hash());
    }
}

#[test]
fn the_seed_decides_and_the_number_of_threads_does_not() {
    let stop = AtomicBool::new(false);
    let watch = Watch { progress: &|_| (), stop: &stop, checkpoint: None, resume: false };
    for precision in [Precision::Float32, Precision::BFloat16] {
        let with = |seed, threads| {
            let settings = toy_settings(Method::Full);
            let settings =
                Settings { seed, threads, precision, epochs: 2, batch: 48, dropout: 0.1, ..settings };
            run(&settings, &watch).unwrap().tensors
        };
        let one = with(1, 1);
        assert_eq!(one, with(1, 3));
        assert_ne!(one, with(2, 1));
    }
}

#[test]
fn an_interrupted_training_goes_on_bit_for_bit() {
    let stop = AtomicBool::new(false);
    let folder = tempfile::tempdir().unwrap();
    for (method, precision) in [
        (Method::Full, Precision::Float32),
        (Settings::lora(2), Precision::Float32),
        (Method::Full, Precision::BFloat16),
    ] {
        let settings = Settings { epochs: 3, dropout: 0.1, precision, ..toy_settings(method) };
        let whole = Watch { progress: &|_| (), stop: &stop, checkpoint: None, resume: false };
        let expected = run(&settings, &whole).unwrap();
        // Stops in the middle of the second epoch.
        let halt = AtomicBool::new(false);
        let progress = |progress: &Progress| {
            halt.store(progress.epoch == 2 && progress.step % 4 == 2, Ordering::Relaxed)
        };
        let watch =
            Watch { progress: &progress, stop: &halt, checkpoint: Some(folder.path()), resume: false };
        assert!(matches!(run(&settings, &watch), Err(Error::Interrupted)));
        let again = Watch { progress: &|_| (), stop: &stop, checkpoint: Some(folder.path()), resume: true };
        let found = run(&settings, &again).unwrap();
        assert_eq!(found.tensors, expected.tensors);
        assert_eq!(found.best_epoch, expected.best_epoch);
    }
}

#[test]
fn a_checkpoint_of_other_settings_is_refused() {
    let stop = AtomicBool::new(false);
    let folder = tempfile::tempdir().unwrap();
    let watch = Watch { progress: &|_| (), stop: &stop, checkpoint: Some(folder.path()), resume: true };
    let settings = Settings { epochs: 1, ..toy_settings(Method::LastLayers(1)) };
    run(&settings, &watch).unwrap();
    let other = Settings { learning_rate: 2e-2, ..settings };
    let error = run(&other, &watch).unwrap_err();
    assert!(error.to_string().contains("other rows, settings or weights"), "{error}");
}

#[test]
fn equal_texts_are_all_unseen_or_all_seen() {
    use sizewise_contract::{ClassLabel, Gold};
    let example = |i: u64| Example {
        row: i,
        text: format!("text {}", i / 2),
        labels: vec![Some(Gold(ClassLabel::Class((i % 4 / 2) as u16)))],
        group: None,
        time: None,
    };
    let split = Split::new(&(0..2_000).map(example).collect::<Vec<_>>(), 1);
    let unseen = split.unseen.iter().filter(|unseen| **unseen).count();
    assert!((380..420).contains(&unseen), "{unseen}");
    assert!(split.unseen.chunks(2).all(|pair| pair[0] == pair[1]));
    assert!(split.train.iter().all(|row| !split.unseen[*row]));
    assert_eq!(split.train.len() + unseen, 2_000);
}

#[test]
fn an_adapter_answers_as_the_changed_encoder_does() {
    let stop = AtomicBool::new(false);
    let watch = Watch { progress: &|_| (), stop: &stop, checkpoint: None, resume: false };
    for family in Family::ALL {
        check_adapter(family, &watch);
    }
}

fn check_adapter(family: Family, watch: &Watch<'_>) {
    let base = files(family, 3, "gelu");
    let adapted = run_of(family, &toy_settings(Settings::lora(4)), watch).unwrap();
    let made = adapted.adapter(&base.as_ref()).unwrap();
    let embed = |encoder: &Encoder| encoder.embed_ids(&texts()).unwrap();
    let before = embed(&Encoder::from_files(&base.as_ref()).unwrap());
    let changed = embed(&Encoder::from_files(&adapted.files(&base.as_ref()).unwrap().as_ref()).unwrap());
    let beside = made.encoder().unwrap();
    let merged = Encoder::from_files(&merge(&made.base.as_ref(), &made.adapter).unwrap().as_ref()).unwrap();
    let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let (found, mut seen) = ([embed(&beside), embed(&merged)], 1.0f32);
    for (number, (before, changed)) in before.rows().zip(changed.rows()).enumerate() {
        let alike: Vec<f32> =
            found.iter().map(|found| cosine(found.rows().nth(number).unwrap(), changed)).collect();
        assert!(alike.iter().all(|alike| *alike > 0.997), "{alike:?}");
        seen = seen.min(cosine(before, changed));
    }
    assert!(seen < 0.99, "the training must be seen: {seen}");
    assert_eq!(beside.base_hash(), made.base.as_ref().hash());
    assert!(merge(&base.as_ref(), &made.adapter).is_err(), "the base in 8 bits is another encoder");
    let full = run_of(family, &toy_settings(Method::Full), watch).unwrap();
    assert!(full.adapter(&base.as_ref()).is_err(), "what is not of low rank is no adapter");
}
