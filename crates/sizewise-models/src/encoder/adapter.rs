//! What does one task change about an encoder that many tasks share?
//!
//! Low-rank changes of its matrices (LoRA, Hu et al. 2021): a change of rank r reads r numbers from a row of inputs and adds what
//! they stand for to the row of outputs. Both factors are bytes, with one scale for each of the r numbers, so that a
//! task has less than a megabyte of its own where a whole encoder would be twenty. Texts of several tasks go through the shared matrices
//! together, and only then through what each task adds; every number is added in the same order in every batch and on every machine.

use super::layers::Stack;
use crate::{
    error::{Error, Result},
    kernels::widest,
    memory::{InMemory, each},
    tensors::{self, Output, Tensors},
};
use sizewise_contract::ContentHash;
use std::ops::Range;

/// Name and version of the file format.
const FORMAT: &str = "sizewise-adapter/1";
/// Name of the file, for messages.
const FILE: &str = "adapter.safetensors";
/// Tokens that share one reading of a factor, as long as there are so many. Times [`LANES`] they are as many sums as the compiler keeps in
/// registers.
const TOKENS: usize = 4;
/// Numbers that one instruction takes, on the widest machines.
const LANES: usize = 16;
/// What is read of a row is filled up to a multiple of this.
const FILLED: usize = LANES / 2;
/// Outputs that are written side by side.
const WIDTH: usize = LANES;

/// A matrix of a layer that a low-rank change can be added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoraMatrix {
    /// Of attention.
    Query,
    /// Of attention.
    Key,
    /// Of attention.
    Value,
    /// After attention.
    AttentionOut,
    /// The first of the two feed-forward matrices.
    Up,
    /// The second of them.
    Down,
}

/// A low-rank change as it was trained.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraChange {
    /// The layer, from 0.
    pub layer: usize,
    /// Its matrix.
    pub matrix: LoraMatrix,
    /// How many numbers it reads from a row.
    pub rank: usize,
    /// The factor that reads. `[rank, inputs]`
    pub down: Vec<f32>,
    /// The factor that writes, times what the change counts. `[outputs, rank]`
    pub up: Vec<f32>,
}

/// The changes of one task.
#[derive(Debug)]
pub struct Adapter {
    layers: Vec<Changes>,
    hash: ContentHash,
}

/// The changes of one layer, by what they are added to.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) query_key_value: LowRank,
    pub(super) attention_out: LowRank,
    pub(super) up: LowRank,
    pub(super) down: LowRank,
}

/// Changes of one matrix, or of several that read the same rows, arranged for use.
#[derive(Debug, Default)]
pub(super) struct LowRank {
    inputs: usize,
    /// Numbers that are read of a row, filled up.
    read: usize,
    /// `[inputs, read]`
    down: Vec<i8>,
    /// `[read]`; 0 for those that fill up.
    scales: Vec<f32>,
    writes: Vec<Write>,
}

/// What becomes of some of the numbers that were read.
#[derive(Debug)]
struct Write {
    /// Which numbers.
    from: Range<usize>,
    /// The outputs that they are added to.
    outputs: Range<usize>,
    /// `[rank, outputs]`
    up: Vec<i8>,
}

/// Tokens of a batch that one task changes.
#[derive(Debug, Clone)]
pub(super) struct Changed<'a> {
    pub(super) tokens: Range<usize>,
    pub(super) adapter: &'a Adapter,
}

impl LoraMatrix {
    /// All of them, in the order in which a layer uses them.
    pub const ALL: [Self; 6] =
        [Self::Query, Self::Key, Self::Value, Self::AttentionOut, Self::Up, Self::Down];

    /// What it is called in a file.
    fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Key => "key",
            Self::Value => "value",
            Self::AttentionOut => "attention_out",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// Writes changes of the encoder with this hash as bytes.
///
/// # Errors
/// Fails where a factor does not have the length that its rank asks for.
pub fn adapter_to_bytes(base: ContentHash, changes: &[LoraChange]) -> Result<Vec<u8>> {
    let mut outputs = vec![Output::octets("base", &[base.as_bytes().len()], base.as_bytes())];
    for change in changes {
        let LoraChange { layer, matrix, rank, down, up } = change;
        let name = |part: &str| format!("{layer}.{}.{part}", matrix.name());
        if *rank == 0 || !down.len().is_multiple_of(*rank) || !up.len().is_multiple_of(*rank) {
            return Err(Error::Internal("a change has factors of its rank"));
        }
        let (inputs, width) = (down.len() / rank, up.len() / rank);
        let across: Vec<f32> =
            (0..*rank).flat_map(|number| up.iter().skip(number).step_by(*rank).copied()).collect();
        let (down, down_scales) = rounded(down, inputs);
        let (up, up_scales) = rounded(&across, width);
        let scales: Vec<f32> = down_scales.iter().zip(&up_scales).map(|(down, up)| down * up).collect();
        outputs.push(Output::bytes(&name("down"), &[*rank, inputs], &down));
        outputs.push(Output::bytes(&name("up"), &[*rank, width], &up));
        outputs.push(Output::floats(&name("scale"), &[*rank], &scales));
    }
    tensors::write(FORMAT, &outputs)
}

/// Rows as bytes with one scale each.
fn rounded(values: &[f32], length: usize) -> (Vec<i8>, Vec<f32>) {
    let (mut bytes, mut scales) = (Vec::with_capacity(values.len()), Vec::new());
    for row in values.chunks_exact(length.max(1)) {
        let largest = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
        bytes.extend(row.iter().map(|value| (value / scale).round() as i8));
        scales.push(scale);
    }
    (bytes, scales)
}

/// The encoder that an adapter changes.
///
/// # Errors
/// Fails when the bytes are no adapter.
pub fn base_of_adapter(bytes: &[u8]) -> Result<ContentHash> {
    let tensors = Tensors::parse(FILE, bytes)?;
    tensors.expect_format(FORMAT)?;
    let hash: Option<[u8; 32]> = tensors.octets("base", &[32])?.try_into().ok();
    hash.map(ContentHash::of_digest).ok_or(Error::Internal("a hash has 32 bytes"))
}

/// The changes that an adapter holds, rounded as they serve.
///
/// # Errors
/// Fails when the bytes are no adapter.
pub fn adapter_changes(bytes: &[u8]) -> Result<Vec<LoraChange>> {
    let tensors = Tensors::parse(FILE, bytes)?;
    tensors.expect_format(FORMAT)?;
    let mut changes = Vec::new();
    for name in tensors.names() {
        let Some(of) = name.strip_suffix(".scale") else { continue };
        let place = of.split_once('.').and_then(|(layer, matrix)| {
            let matrix = LoraMatrix::ALL.into_iter().find(|known| known.name() == matrix)?;
            Some((layer.parse().ok()?, matrix))
        });
        let (layer, matrix) =
            place.ok_or_else(|| tensors.damaged(format!("`{name}` is of no matrix that can be changed")))?;
        let sides = |part: &str| match tensors.shape(&format!("{of}.{part}"))?.as_slice() {
            &[rank, length] if rank > 0 => Ok((rank, length)),
            other => {
                Err(tensors.damaged(format!("tensor `{of}.{part}` has shape {other:?}, not [rank, length]")))
            }
        };
        let ((rank, inputs), (_, outputs)) = (sides("down")?, sides("up")?);
        let scales = tensors.floats(&name, &[rank])?;
        let down = tensors.bytes(&format!("{of}.down"), &[rank, inputs])?;
        let across = tensors.bytes(&format!("{of}.up"), &[rank, outputs])?;
        let up = (0..outputs).flat_map(|output| {
            let column = across.iter().skip(output).step_by(outputs);
            column.zip(&scales).map(|(value, scale)| f32::from(*value) * scale)
        });
        let up = up.collect();
        changes.push(LoraChange { layer, matrix, rank, down: down.into_iter().map(f32::from).collect(), up });
    }
    Ok(changes)
}

impl Adapter {
    /// Reads what [`adapter_to_bytes`] wrote, for an encoder.
    pub(super) fn load(bytes: &[u8], base: ContentHash, stack: &Stack) -> Result<Self> {
        if base_of_adapter(bytes)? != base {
            return Err(Error::File { file: FILE.into(), problem: "it changes another encoder".into() });
        }
        let tensors = Tensors::parse(FILE, bytes)?;
        let mut layers: Vec<Changes> = stack.layers.iter().map(|_| Changes::default()).collect();
        let mut known = 1;
        for (number, (layer, changes)) in stack.layers.iter().zip(&mut layers).enumerate() {
            let hidden = stack.config.hidden;
            let attended = hidden / stack.config.heads * layer.heads;
            // A gate takes half of the outputs.
            let wide = layer.up.outputs() / if layer.pre_norm.is_some() { 2 } else { 1 };
            for matrix in LoraMatrix::ALL {
                let name = |part: &str| format!("{number}.{}.{part}", matrix.name());
                if !tensors.has(&name("scale")) {
                    continue;
                }
                let (change, inputs, outputs) = match matrix {
                    LoraMatrix::Query => (&mut changes.query_key_value, hidden, 0..attended),
                    LoraMatrix::Key => (&mut changes.query_key_value, hidden, attended..2 * attended),
                    LoraMatrix::Value => (&mut changes.query_key_value, hidden, 2 * attended..3 * attended),
                    LoraMatrix::AttentionOut => (&mut changes.attention_out, attended, 0..hidden),
                    LoraMatrix::Up => (&mut changes.up, hidden, 0..layer.up.outputs()),
                    LoraMatrix::Down => (&mut changes.down, wide, 0..hidden),
                };
                let rank = tensors.shape(&name("scale"))?.first().copied().unwrap_or(0);
                if rank == 0 || rank > hidden {
                    let problem =
                        format!("`{}` has rank {rank}; it must be from 1 to {hidden}", name("scale"));
                    return Err(tensors.damaged(problem));
                }
                let scales = tensors.floats(&name("scale"), &[rank])?;
                if !scales.iter().all(|scale| scale.is_finite()) {
                    return Err(tensors.damaged(format!("`{}` is not finite", name("scale"))));
                }
                let up = tensors.bytes(&name("up"), &[rank, outputs.len()])?;
                let from = change.scales.len()..change.scales.len() + rank;
                change.inputs = inputs;
                change.scales.extend(scales);
                // Row after row for now.
                change.down.extend(tensors.bytes(&name("down"), &[rank, inputs])?);
                change.writes.push(Write { from, outputs, up });
                known += 3;
            }
        }
        for changes in &mut layers {
            let Changes { query_key_value, attention_out, up, down } = changes;
            [query_key_value, attention_out, up, down].into_iter().for_each(LowRank::arrange);
        }
        let names = tensors.names().len();
        if names != known {
            let problem =
                format!("{} of its {names} tensors change no matrix of this encoder", names.abs_diff(known));
            return Err(tensors.damaged(problem));
        }
        let mut hash = ContentHash::builder();
        hash.field(base.as_bytes());
        hash.field(bytes);
        Ok(Self { layers, hash: hash.finish() })
    }

    /// Hash of the encoder with these changes.
    pub(super) fn hash(&self) -> ContentHash {
        self.hash
    }
}

/// Adds what tasks change of a product to it. `inputs` and `out` are rows of the tokens from `first` on, `width` is the length of a
/// row of `out`. `narrow` is a buffer.
pub(super) fn add_changes(
    changed: &[Changed<'_>],
    (layer, of): (usize, fn(&Changes) -> &LowRank),
    (first, inputs): (usize, &[f32]),
    (out, width): (&mut [f32], usize),
    narrow: &mut Vec<f32>,
) {
    let tokens = first..first + out.len() / width.max(1);
    let length = inputs.len() / tokens.len().max(1);
    for Changed { tokens: theirs, adapter } in changed {
        let both = theirs.start.max(tokens.start)..theirs.end.min(tokens.end);
        let Some(changes) = adapter.layers.get(layer).filter(|_| !both.is_empty()) else { continue };
        let rows = both.start - first..both.end - first;
        let inputs = inputs.get(rows.start * length..rows.end * length).unwrap_or_default();
        let Some(out) = out.get_mut(rows.start * width..rows.end * width) else { continue };
        of(changes).add((inputs, length), (out, width), narrow);
    }
}

impl LowRank {
    /// Brings what is read into the order in which it is used: what each input adds to every number stands together.
    fn arrange(&mut self) {
        let rank = self.scales.len();
        self.read = rank.next_multiple_of(FILLED);
        let mut down = vec![0; self.inputs * self.read];
        for (number, row) in self.down.chunks_exact(self.inputs.max(1)).enumerate() {
            let slots = down.iter_mut().skip(number).step_by(self.read.max(1));
            slots.zip(row).for_each(|(slot, weight)| *slot = *weight);
        }
        self.down = down;
        self.scales.resize(self.read, 0.0);
    }

    fn add(&self, (rows, length): (&[f32], usize), (out, width): (&mut [f32], usize), narrow: &mut Vec<f32>) {
        let fits = length == self.inputs && self.writes.iter().all(|write| write.outputs.end <= width);
        if self.read == 0 || !fits {
            return;
        }
        widest(
            #[inline(always)]
            || {
                let (rows, out) = self.add_by::<TOKENS>((rows, &mut *out, width), narrow);
                self.add_by::<1>((rows, out, width), narrow);
            },
        );
    }

    /// Goes through the rows, `T` at a time; returns those that are left.
    #[inline(always)]
    fn add_by<'a, 'b, const T: usize>(
        &self,
        (rows, out, width): (&'a [f32], &'b mut [f32], usize),
        narrow: &mut Vec<f32>,
    ) -> (&'a [f32], &'b mut [f32]) {
        let mut rows = rows.chunks_exact(T * self.inputs);
        let mut out = out.chunks_exact_mut(T * width);
        for (rows, out) in (&mut rows).zip(&mut out) {
            narrow.clear();
            narrow.resize(T * self.read, 0.0);
            if self.read.is_multiple_of(LANES) {
                self.read_rows::<T, LANES>(rows, narrow);
            } else {
                self.read_rows::<T, FILLED>(rows, narrow);
            }
            for write in &self.writes {
                write.add::<T>((narrow, self.read), (out, width));
            }
        }
        (rows.remainder(), out.into_remainder())
    }

    /// Reads `T` rows into `narrow`, `[T, read]`, `L` numbers at a time.
    #[inline(always)]
    fn read_rows<const T: usize, const L: usize>(&self, mut rest: &[f32], narrow: &mut [f32]) {
        let inputs = self.inputs;
        let rows: [&[f32]; T] = std::array::from_fn(|_| {
            let (row, below) = rest.split_at(inputs);
            rest = below;
            row
        });
        for begin in (0..self.read).step_by(L) {
            let mut sums = [[0.0f32; L]; T];
            for input in 0..inputs {
                let at = input * self.read + begin;
                let Some(weights) = self.down.get(at..at + L) else { return };
                let weights = floats::<L>(weights);
                for (sums, row) in sums.iter_mut().zip(&rows) {
                    let value = row.get(input).copied().unwrap_or(0.0);
                    for (sum, weight) in sums.iter_mut().zip(&weights) {
                        *sum = value.mul_add(*weight, *sum);
                    }
                }
            }
            for (sums, narrow) in sums.iter().zip(narrow.chunks_exact_mut(self.read)) {
                let slots = narrow.iter_mut().zip(&self.scales).skip(begin);
                slots.zip(sums).for_each(|((slot, scale), sum)| *slot = sum * scale);
            }
        }
    }
}

impl Write {
    /// Adds what `narrow`, `[T, read]`, stands for to `T` rows.
    #[inline(always)]
    fn add<const T: usize>(&self, (narrow, read): (&[f32], usize), (out, width): (&mut [f32], usize)) {
        let mut rest = narrow;
        let narrow: [&[f32]; T] = std::array::from_fn(|_| {
            let (row, below) = rest.split_at(read);
            rest = below;
            row
        });
        let (count, rank) = (self.outputs.len(), self.from.len());
        for begin in (0..count).step_by(WIDTH) {
            let end = count.min(begin + WIDTH);
            let mut sums = [[0.0f32; WIDTH]; T];
            for number in 0..rank {
                let Some(up) = self.up.get(number * count + begin..number * count + end) else { return };
                let weights = match up.first_chunk::<WIDTH>() {
                    Some(up) => floats::<WIDTH>(up),
                    None => floats(up),
                };
                for (sums, narrow) in sums.iter_mut().zip(&narrow) {
                    let value = narrow.get(self.from.start + number).copied().unwrap_or(0.0);
                    for (sum, weight) in sums.iter_mut().zip(&weights) {
                        *sum = value.mul_add(*weight, *sum);
                    }
                }
            }
            let columns = self.outputs.start + begin..self.outputs.start + end;
            for (sums, row) in sums.iter().zip(out.chunks_exact_mut(width)) {
                let Some(row) = row.get_mut(columns.clone()) else { return };
                row.iter_mut().zip(sums).for_each(|(slot, sum)| *slot += sum);
            }
        }
    }
}

/// Bytes as floating point numbers, filled up with zeros.
#[inline(always)]
fn floats<const L: usize>(bytes: &[i8]) -> [f32; L] {
    let mut floats = [0.0; L];
    for (slot, byte) in floats.iter_mut().zip(bytes) {
        *slot = f32::from(*byte);
    }
    floats
}

impl InMemory for Adapter {
    fn held_bytes(&self) -> usize {
        let of = |change: &LowRank| {
            let writes = each(&change.writes, change.writes.capacity(), |write| write.up.held_bytes());
            change.down.held_bytes() + change.scales.held_bytes() + writes
        };
        each(&self.layers, self.layers.capacity(), |layer| {
            of(&layer.query_key_value) + of(&layer.attention_out) + of(&layer.up) + of(&layer.down)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        builtin,
        encoder::{Encoder, Sequence},
    };
    use sizewise_contract::{Embed, task::Overflow};

    const TEXTS: [&str; 5] = [
        "my card was swallowed by the machine in the station",
        "hi",
        "where is the parcel that I sent last week, and who signed for it when it came to the wrong house?",
        "two payments for one ticket",
        "thanks",
    ];

    fn number(i: usize, seed: usize) -> f32 {
        (i.wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503)) % 1_999) as f32 / 999.5 - 1.0
    }

    /// Changes of every matrix of the built-in encoder.
    fn changes(rank: usize, size: f32, seed: usize) -> Vec<LoraChange> {
        let sides = |matrix| match matrix {
            LoraMatrix::Up => (384, 1_536),
            LoraMatrix::Down => (1_536, 384),
            _ => (384, 384),
        };
        let of = |layer: usize, matrix: LoraMatrix| {
            let (inputs, outputs) = sides(matrix);
            let seed = seed + 7 * layer + matrix as usize;
            let down = (0..rank * inputs).map(|i| number(i, seed) * size).collect();
            let up = (0..outputs * rank).map(|i| number(i, seed + 100) * size).collect();
            LoraChange { layer, matrix, rank, down, up }
        };
        (0..6).flat_map(|layer| LoraMatrix::ALL.map(|matrix| of(layer, matrix))).collect()
    }

    fn adapter(rank: usize, size: f32, seed: usize) -> Vec<u8> {
        adapter_to_bytes(builtin::encoder_files().hash(), &changes(rank, size, seed)).unwrap()
    }

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn an_adapter_gives_what_the_changed_matrices_give() {
        let base = builtin::encoder().unwrap();
        let changed = base.with_adapter(&adapter(5, 0.15, 1)).unwrap();
        let (as_it_was, found) =
            (base.embed(&TEXTS, Overflow::Error), changed.embed(&TEXTS, Overflow::Error));
        let merged = Encoder::from_files(&merged(&changes(5, 0.15, 1)).as_ref()).unwrap();
        let expected = merged.embed(&TEXTS, Overflow::Error).unwrap();
        for ((before, found), expected) in
            as_it_was.unwrap().rows().zip(found.unwrap().rows()).zip(expected.rows())
        {
            let (before, found) = (cosine(before, expected), cosine(found, expected));
            // Activations in 8 bits are what is left of the difference.
            assert!(before < 0.9 && found > 0.985, "{before} without the changes, {found} with them");
        }
    }

    /// The built-in encoder in floating point with changes added to its matrices.
    fn merged(changes: &[LoraChange]) -> crate::encoder::EncoderFiles<Vec<u8>> {
        let base = builtin::encoder_files();
        let (name, bytes) = &base.weights[0];
        let file = Tensors::parse(name, bytes).unwrap();
        let mut outputs = Vec::new();
        for tensor in file.names().iter().filter(|tensor| !file.is_part(tensor)) {
            let shape = file.matrix_shape(tensor).unwrap();
            let mut values = match *shape {
                [rows, columns] => file.matrix_floats(tensor, (rows, columns)).unwrap(),
                _ => file.floats(tensor, &shape).unwrap(),
            };
            let of = |change: &&LoraChange| {
                let part = match change.matrix {
                    LoraMatrix::Query => "attention.self.query",
                    LoraMatrix::Key => "attention.self.key",
                    LoraMatrix::Value => "attention.self.value",
                    LoraMatrix::AttentionOut => "attention.output.dense",
                    LoraMatrix::Up => "intermediate.dense",
                    LoraMatrix::Down => "output.dense",
                };
                *tensor == format!("encoder.layer.{}.{part}.weight", change.layer)
            };
            if let Some(LoraChange { rank, down, up, .. }) = changes.iter().find(of) {
                let inputs = down.len() / rank;
                for (row, up) in values.chunks_exact_mut(inputs).zip(up.chunks_exact(*rank)) {
                    for (down, up) in down.chunks_exact(inputs).zip(up) {
                        row.iter_mut().zip(down).for_each(|(value, down)| *value += up * down);
                    }
                }
            }
            outputs.push(Output::floats(tensor, &shape, &values));
        }
        let weights = vec![("model.safetensors".into(), tensors::write("floats", &outputs).unwrap())];
        let files = builtin::encoder_files();
        crate::encoder::EncoderFiles {
            config: files.config.to_vec(),
            tokenizer: files.tokenizer.to_vec(),
            pooling: files.pooling.map(<[u8]>::to_vec),
            prompts: files.prompts.map(<[u8]>::to_vec),
            weights,
        }
    }

    #[test]
    fn a_text_has_the_same_vector_in_every_mixture_of_tasks() {
        let base = builtin::encoder().unwrap().with_threads(1);
        let tasks = [
            base.without_adapter(),
            base.with_adapter(&adapter(3, 0.05, 1)).unwrap(),
            base.with_adapter(&adapter(17, 0.02, 2)).unwrap(),
        ];
        let texts: Vec<String> = (0..40).map(|i| format!("{} {}", TEXTS[i % 5], TEXTS[i % 3])).collect();
        let ids: Vec<Vec<u32>> =
            texts.iter().flat_map(|text| base.sequences(&[text], Overflow::Error).unwrap().0).collect();
        let of = |position: usize| &tasks[position * 7 % 3];
        let mixed: Vec<Sequence<'_>> = ids
            .iter()
            .enumerate()
            .map(|(position, ids)| Sequence { ids, adapter: of(position).adapter().map(AsRef::as_ref) })
            .collect();
        let found = base.embed_sequences(&mixed).unwrap();
        for (position, row) in found.rows().enumerate() {
            let alone = of(position).embed_ids(std::slice::from_ref(&ids[position])).unwrap();
            assert_eq!(row, alone.values, "text {position}");
        }
    }

    #[test]
    fn a_task_has_a_small_part_of_the_memory_and_a_hash_of_its_own() {
        let base = builtin::encoder().unwrap();
        let changed = base.with_adapter(&adapter(16, 0.05, 1)).unwrap();
        assert!(changed.own_bytes() < 700_000, "{}", changed.own_bytes());
        assert_eq!(changed.held_bytes(), base.held_bytes() + changed.own_bytes());
        assert_eq!((changed.base_hash(), base.own_bytes()), (base.hash(), 0));
        assert_ne!(changed.hash(), base.hash());
        assert_eq!(changed.with_adapter(&adapter(16, 0.05, 1)).unwrap().hash(), changed.hash());
    }

    #[test]
    fn what_is_no_adapter_of_this_encoder_is_refused() {
        let base = builtin::encoder().unwrap();
        let refused = |bytes: &[u8]| base.with_adapter(bytes).unwrap_err().to_string();
        let hash = builtin::encoder_files().hash();
        let write = |change: LoraChange| adapter_to_bytes(hash, &[change]).unwrap();
        let change = || changes(2, 0.1, 1).remove(0);
        assert!(
            refused(&adapter_to_bytes(ContentHash::of(b"other"), &[]).unwrap()).contains("another encoder")
        );
        assert!(refused(&write(LoraChange { layer: 6, ..change() })).contains("change no matrix"));
        let matrix = LoraMatrix::Down;
        assert!(refused(&write(LoraChange { matrix, ..change() })).contains("0.down.down"));
        let big = LoraChange { rank: 500, down: vec![0.0; 500 * 384], up: vec![0.0; 500 * 384], ..change() };
        assert!(refused(&write(big)).contains("rank 500"));
        let whole = adapter(2, 0.1, 1);
        for length in [0, 1, 8, 100, whole.len() / 2, whole.len() - 1] {
            assert!(base.with_adapter(&whole[..length]).is_err(), "{length}");
        }
        assert!(adapter_to_bytes(hash, &[LoraChange { rank: 5, ..change() }]).is_err());
    }

    #[test]
    fn changes_can_be_read_back_as_they_serve() {
        let (before, after) = (changes(3, 0.1, 4), adapter_changes(&adapter(3, 0.1, 4)).unwrap());
        assert_eq!(before.len(), after.len());
        for after in after {
            let is_it =
                |b: &&LoraChange| (b.layer, b.matrix, b.rank) == (after.layer, after.matrix, after.rank);
            let before = before.iter().find(is_it).unwrap();
            let entry = |change: &LoraChange, output: usize, input: usize| -> f32 {
                let inputs = change.down.len() / 3;
                (0..3).map(|k| change.up[output * 3 + k] * change.down[k * inputs + input]).sum()
            };
            for (output, input) in [(0, 0), (1, 17), (200, 383), (383, 5)] {
                let (a, b) = (entry(before, output, input), entry(&after, output, input));
                assert!((a - b).abs() < 0.0005, "{a} {b}");
            }
        }
        assert!(adapter_changes(b"no").is_err());
    }
}
