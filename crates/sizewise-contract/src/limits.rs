//! How large may anything be that a stranger hands us?
//!
//! One list, so that a reviewer sees every bound at once. Each bound is enforced where the thing enters.

/// Largest task file, in bytes.
pub const TASK_FILE_BYTES: usize = 1 << 20;
/// Most questions one task may ask; the Decisions protocol allows as many in one request.
pub const QUESTIONS: usize = 400;
/// Most choices of one `choice` question in a task file.
pub const CHOICES: usize = 1_000;
/// Fewest and most levels of one `score` question.
pub const SCORE_LEVELS: std::ops::RangeInclusive<usize> = 2..=10;
/// Longest name of a task, question, choice or level, in bytes.
pub const NAME_BYTES: usize = 200;
/// Longest input of one decision, in bytes.
pub const INPUT_BYTES: usize = 256 << 10;
/// Most inputs in one `decide` request.
pub const INPUTS_PER_REQUEST: usize = 1_000;
/// Largest HTTP request body, in bytes.
pub const BODY_BYTES: usize = 8 << 20;
/// Largest single cell of a table, in bytes.
pub const CELL_BYTES: usize = 1 << 20;
/// Most columns of a table.
pub const COLUMNS: usize = 2_000;
/// Most rows of a table that is read for training or evaluation.
pub const ROWS: usize = 5_000_000;
/// Largest `tokenizer.json`, in bytes.
pub const TOKENIZER_BYTES: usize = 64 << 20;
/// Largest vocabulary of a tokenizer.
pub const VOCABULARY: usize = 1 << 20;
/// Largest model file, in bytes.
pub const MODEL_FILE_BYTES: u64 = 8 << 30;
/// Different values of all columns in `[data] slices` together: each makes every other interval wider.
pub const SLICES: usize = 200;
