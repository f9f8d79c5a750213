//! Which labels have too few rows, what is written for them next, and what is kept of it?
//!
//! A label is topped up to a number of rows. What is kept says so twice: the teacher wrote it for a label and gave it that label when
//! it was asked as of any other text. Whatever is thrown away is counted under one reason. All of it is made anew from the drafts and
//! the answers, so it does not hang on where an earlier call stopped.

use super::{
    answers::TeacherAnswer,
    sieve::{CopyOf, Sieve},
    write::{Call, Draft, spelt},
    written::{Manner, WrittenRow},
};
use crate::{
    dataset::{Given, TrainingRows, check_length},
    prepare::text_key,
    train::LEAST_ROWS_PER_CLASS,
};
use serde::Serialize;
use sizewise_contract::{ClassLabel, Example, Label, Task, limits};
use sizewise_measure::random::Random;
use sizewise_models::encoder::Encoder;
use std::collections::{BTreeMap, HashMap};

/// Texts of one call.
const TEXTS_EACH: usize = 10;
/// Rows that a call for new messages shows.
const SHOWN: usize = 3;
/// Texts that are asked for at most, for each one that a label lacks.
const MOST_EACH: usize = 3;
/// Shortest and longest bound on a text, in bytes.
const BOUND: (usize, usize) = (300, 4_000);

/// A label and its rows.
#[derive(Debug, Clone)]
pub struct Wanting {
    /// Position of the question.
    pub question: usize,
    /// The label, as the tables spell it.
    pub label: String,
    /// Rows to learn from that have it, bought ones among them.
    pub rows: usize,
    /// Those that may be shown.
    shown: Vec<String>,
}

/// Why texts were not kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Empty, too long, or with a placeholder in it.
    pub unusable: usize,
    /// Copies of locked or opened rows, near ones among them, as below.
    pub locked: usize,
    /// Copies of development rows.
    pub dev: usize,
    /// Copies of rows that a person answered and that are in no table yet.
    pub answered: usize,
    /// Copies of rows to learn from.
    pub training: usize,
    /// Copies of texts that were written before.
    pub written: usize,
    /// Asked again, the teacher gave them another label.
    pub contradicted: usize,
    /// Asked again, it gave no answer that fits.
    pub unanswered: usize,
}

/// What came of a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OfLabel {
    /// The question.
    pub question: String,
    /// The label.
    pub label: String,
    /// Rows to learn from that it has.
    pub rows: usize,
    /// Texts that were written for it.
    pub written: usize,
    /// Those that were kept.
    pub kept: usize,
}

struct Candidate {
    text: String,
    draft: usize,
}

/// Drafts, and what is left of them.
pub struct Settler<'a> {
    task: &'a Task,
    encoder: Option<&'a Encoder>,
    sieve: Sieve,
    longest: usize,
    drafts: Vec<Draft>,
    /// How many of them earlier runs left.
    earlier: usize,
    candidates: Vec<Candidate>,
    left_out: LeftOut,
}

/// Labels with fewer rows than `goal`; then those with too few to learn them at all, as `question: label`.
#[must_use]
pub fn wanting(task: &Task, rows: &TrainingRows, sieve: &Sieve, goal: usize) -> (Vec<Wanting>, Vec<String>) {
    match rows {
        TrainingRows::Gold(rows) => of_rows(task, &rows.examples, (sieve, goal), |_| true),
        TrainingRows::Teacher(rows) => of_rows(task, &rows.examples, (sieve, goal), |_| true),
        TrainingRows::Mixed(rows) => {
            let is_gold = |label: &Given| matches!(label, Given::Gold(_));
            of_rows(task, &rows.examples, (sieve, goal), is_gold)
        }
    }
}

fn of_rows<L: Label>(
    task: &Task,
    examples: &[Example<L>],
    (sieve, goal): (&Sieve, usize),
    is_checked: impl Fn(&L) -> bool,
) -> (Vec<Wanting>, Vec<String>) {
    let (mut wanting, mut bare) = (Vec::new(), Vec::new());
    for (question, asked) in task.questions.iter().enumerate() {
        for class in 0..asked.class_values().len() {
            let Some((label, _)) = spelt(asked, class) else { continue };
            let of_class: Vec<&Example<L>> = examples
                .iter()
                .filter(|row| row.class_label(question).and_then(ClassLabel::class) == Some(class))
                .collect();
            if of_class.len() >= goal {
                continue;
            }
            if of_class.len() < LEAST_ROWS_PER_CLASS {
                bare.push(format!("{}: {label}", asked.name));
                continue;
            }
            // Labels that people checked are shown before those that a model gave.
            let checked = |row: &&&Example<L>| {
                row.labels.get(question).and_then(Option::as_ref).is_some_and(&is_checked)
            };
            let any_checked = of_class.iter().any(|row| checked(&row));
            let shown: Vec<String> = of_class
                .iter()
                .filter(|row| !any_checked || checked(row))
                .map(|row| row.text.clone())
                .filter(|text| text.len() <= BOUND.1 && !sieve.keeps_back(text))
                .collect();
            if shown.is_empty() {
                bare.push(format!("{}: {label}", asked.name));
                continue;
            }
            wanting.push(Wanting { question, label, rows: of_class.len(), shown });
        }
    }
    (wanting, bare)
}

/// The longest text that may be written, in bytes: twice the longest row of a usual length.
#[must_use]
pub fn longest(rows: &TrainingRows) -> usize {
    fn of<L>(examples: &[Example<L>]) -> usize {
        let lengths = examples.iter().map(|row| row.text.len()).filter(|length| *length <= BOUND.1);
        lengths.max().unwrap_or(0)
    }
    let longest = match rows {
        TrainingRows::Gold(rows) => of(&rows.examples),
        TrainingRows::Teacher(rows) => of(&rows.examples),
        TrainingRows::Mixed(rows) => of(&rows.examples),
    };
    (2 * longest).clamp(BOUND.0, BOUND.1)
}

/// What is planned with.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// Rows that each label is to have.
    pub goal: usize,
    /// How texts come to be, in turns.
    pub manners: &'a [Manner],
    /// Decides which rows are shown.
    pub seed: u64,
}

impl<'a> Settler<'a> {
    /// Begins with what earlier calls wrote.
    #[must_use]
    pub fn new(
        (task, encoder): (&'a Task, Option<&'a Encoder>),
        sieve: Sieve,
        longest: usize,
        drafts: Vec<Draft>,
    ) -> Self {
        let mut settler = Self {
            task,
            encoder,
            sieve,
            longest,
            drafts: Vec::new(),
            earlier: 0,
            candidates: Vec::new(),
            left_out: LeftOut::default(),
        };
        drafts.into_iter().for_each(|draft| settler.take(draft));
        settler.earlier = settler.drafts.len();
        settler
    }

    /// Why the last answer of this run that could not be used could not, and how many there were.
    #[must_use]
    pub fn problem(&self) -> Option<(&str, usize)> {
        let drafts = self.drafts.get(self.earlier..).unwrap_or_default();
        let problems = || drafts.iter().filter_map(|draft| draft.problem.as_deref());
        problems().next_back().map(|last| (last, problems().count()))
    }

    /// Looks through what a call wrote.
    pub fn take(&mut self, draft: Draft) {
        for text in &draft.texts {
            let copied = self.is_usable(text).then(|| self.sieve.copied(text));
            let left_out = &mut self.left_out;
            let count = match copied {
                None => &mut left_out.unusable,
                Some(Some(CopyOf::Locked)) => &mut left_out.locked,
                Some(Some(CopyOf::Dev)) => &mut left_out.dev,
                Some(Some(CopyOf::Answered)) => &mut left_out.answered,
                Some(Some(CopyOf::Training)) => &mut left_out.training,
                Some(Some(CopyOf::Written)) => &mut left_out.written,
                Some(None) => {
                    self.sieve.add(CopyOf::Written, text);
                    self.candidates.push(Candidate { text: text.clone(), draft: self.drafts.len() });
                    continue;
                }
            };
            *count += 1;
        }
        self.drafts.push(draft);
    }

    fn is_usable(&self, text: &str) -> bool {
        !text.trim().is_empty()
            && text.chars().count() <= self.longest
            && text.len() <= limits::INPUT_BYTES
            && !has_placeholder(text)
            && check_length("written", 0, text, (self.task, self.encoder)).is_ok()
    }

    /// How many texts were written in all.
    #[must_use]
    pub fn written(&self) -> usize {
        self.drafts.iter().map(|draft| draft.texts.len()).sum()
    }

    /// Texts that the teacher was not asked about yet.
    #[must_use]
    pub fn open(&self, answers: &HashMap<String, TeacherAnswer>) -> Vec<&str> {
        let texts = self.candidates.iter().map(|candidate| candidate.text.as_str());
        texts.filter(|text| !answers.contains_key(*text)).collect()
    }

    /// What is kept, and why the rest is not.
    #[must_use]
    pub fn settled(&self, answers: &HashMap<String, TeacherAnswer>) -> (Vec<WrittenRow>, LeftOut) {
        let (mut rows, mut left_out) = (Vec::new(), self.left_out);
        for candidate in &self.candidates {
            let Some((draft, answer)) = self.drafts.get(candidate.draft).zip(answers.get(&candidate.text))
            else {
                continue;
            };
            let Some((place, question)) = self.task.question(&draft.question) else { continue };
            let said = answer.class_labels(self.task).get(place).copied().flatten();
            if said.is_none() {
                left_out.unanswered += 1;
                continue;
            }
            if said != question.class_label(&draft.label) {
                left_out.contradicted += 1;
                continue;
            }
            rows.push(WrittenRow {
                text: candidate.text.clone(),
                labels: answer.labels.clone(),
                written: draft.manner,
                source: "teacher".into(),
                model: draft.model.clone(),
                date: draft.date.clone(),
                shown: draft.shown.clone(),
            });
        }
        (rows, left_out)
    }

    /// What came of each label.
    #[must_use]
    pub fn labels(&self, wanting: &[Wanting], answers: &HashMap<String, TeacherAnswer>) -> Vec<OfLabel> {
        let (rows, _) = self.settled(answers);
        let mut kept: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for row in &rows {
            for (question, label) in &row.labels {
                *kept.entry((question, label)).or_default() += 1;
            }
        }
        let of = |label: &Wanting| {
            let question = self.task.questions.get(label.question).map_or("", |q| q.name.as_str());
            let ours = self.drafts.iter().filter(|d| d.question == question && d.label == label.label);
            OfLabel {
                question: question.to_owned(),
                label: label.label.clone(),
                rows: label.rows,
                written: ours.map(|draft| draft.texts.len()).sum(),
                kept: kept.get(&(question, label.label.as_str())).copied().unwrap_or(0),
            }
        };
        wanting.iter().map(of).collect()
    }

    /// The next calls: what each label still lacks, in turns, so that a budget that ends leaves none without.
    #[must_use]
    pub fn plan(
        &self,
        wanting: &[Wanting],
        answers: &HashMap<String, TeacherAnswer>,
        plan: Plan<'_>,
    ) -> Vec<Call> {
        let mut calls = Vec::new();
        for (label, found) in wanting.iter().zip(self.labels(wanting, answers)) {
            let lacking = plan.goal.saturating_sub(found.rows + found.kept);
            let ours = self.drafts.iter().enumerate();
            let ours = ours.filter(|(_, d)| d.question == found.question && d.label == found.label);
            let (asked, next) = ours.fold((0usize, 0u32), |(asked, next), (place, draft)| {
                // An earlier run may have had no answer: that is no word about this one's teacher.
                let came = place >= self.earlier || !draft.texts.is_empty();
                let texts = if came { draft.wanted.max(draft.texts.len()) } else { 0 };
                (asked.saturating_add(texts), next.max(draft.turn.saturating_add(1)))
            });
            // A model that only repeats itself is not paid for ever.
            let room = (MOST_EACH * plan.goal.saturating_sub(found.rows)).saturating_sub(asked);
            let mut left = lacking.min(room);
            let mut turn = next;
            while left > 0 {
                let manner = plan.manners.get(turn as usize % plan.manners.len().max(1)).copied();
                let wanted = TEXTS_EACH.min(left.max(2));
                let manner = manner.unwrap_or(Manner::New);
                calls.push(Call {
                    question: label.question,
                    label: label.label.clone(),
                    turn,
                    order: 0,
                    manner,
                    wanted,
                    longest: self.longest,
                    shown: drawn(label, (turn, manner), plan.seed),
                });
                left = left.saturating_sub(wanted);
                turn += 1;
            }
        }
        calls.sort_by_key(|call| call.turn);
        let next = self.drafts.iter().map(|draft| draft.order.saturating_add(1)).max().unwrap_or(0);
        (next..).zip(&mut calls).for_each(|(order, call)| call.order = order);
        calls
    }
}

/// The rows that a call shows, drawn at random.
fn drawn(label: &Wanting, (turn, manner): (u32, Manner), seed: u64) -> Vec<String> {
    let key = text_key(&label.label);
    // Each pass through the rows has an order of its own, and every row is shown before most are shown again.
    let shown = if manner == Manner::New { SHOWN } else { 1 };
    let (first, of) = (turn as usize * shown, label.shown.len().max(1));
    let mut order: Vec<usize> = (0..label.shown.len()).collect();
    Random::new(seed ^ key ^ (((first / of) as u64) << 40)).shuffle(&mut order);
    let places = (first..first + shown.min(of)).filter_map(|at| order.get(at % of));
    places.filter_map(|place| label.shown.get(*place)).cloned().collect()
}

/// Whether a text holds a placeholder of redaction: nobody sends such.
fn has_placeholder(text: &str) -> bool {
    text.split('<').skip(1).any(|rest| {
        let inner = rest.split_once('>').map_or("", |(inner, _)| inner);
        let (kind, number) = inner.rsplit_once('_').unwrap_or_default();
        !kind.is_empty()
            && kind.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sizewise_contract::{ContentHash, Gold};

    const TASK: &str = "schema = 1\nname = \"t\"\n[[question]]\nname = \"team\"\ntype = \"choice\"\nchoices = [{ value = \"billing\" }, { value = \"delivery\" }, { value = \"returns\" }]\nout_of_scope_label = \"none\"\n";

    fn rows(counts: [usize; 3]) -> TrainingRows {
        let mut examples = Vec::new();
        for (class, count) in counts.into_iter().enumerate() {
            for i in 0..count {
                let label = Some(Gold(ClassLabel::Class(class as u16)));
                let text = format!("row {i} of class {class}");
                examples.push(Example { row: 1, text, labels: vec![label], group: None, time: None });
            }
        }
        TrainingRows::Gold(crate::dataset::Dataset { examples, hash: ContentHash::of(b"") })
    }

    fn draft(label: &str, turn: u32, texts: &[&str]) -> Draft {
        Draft {
            question: "team".into(),
            label: label.into(),
            turn,
            order: u64::from(turn),
            manner: Manner::New,
            wanted: texts.len(),
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
            problem: None,
            asked: "m".into(),
            model: "m-1".into(),
            date: "2026-01-02".into(),
            request: None,
            shown: vec!["00".into()],
        }
    }

    fn answers(said: &[(&str, &str)]) -> HashMap<String, TeacherAnswer> {
        let answer = |(text, label): &(&str, &str)| {
            let labels = match label.is_empty() {
                true => BTreeMap::new(),
                false => BTreeMap::from([("team".to_owned(), (*label).to_owned())]),
            };
            let answer = TeacherAnswer {
                text: (*text).into(),
                labels,
                problem: None,
                asked: "m".into(),
                model: "m-1".into(),
                date: "2026-01-02".into(),
                request: None,
            };
            ((*text).to_owned(), answer)
        };
        said.iter().map(answer).collect()
    }

    #[test]
    fn labels_with_few_rows_are_topped_up_in_turns_and_not_for_ever() {
        let task = Task::parse(TASK).unwrap();
        let mut sieve = Sieve::default();
        sieve.add(CopyOf::Dev, "row 3 of class 1");
        let (wanting, bare) = wanting(&task, &rows([30, 8, 1]), &sieve, 30);
        assert_eq!(bare, ["team: returns"], "one row tells nothing");
        assert_eq!((wanting.len(), wanting[0].label.as_str(), wanting[0].rows), (1, "delivery", 8));
        assert_eq!(wanting[0].shown.len(), 7, "a development row is not shown");
        let plan = Plan { goal: 30, manners: &[Manner::New, Manner::Paraphrase], seed: 1 };
        let mut settler = Settler::new((&task, None), sieve, 300, Vec::new());
        let calls = settler.plan(&wanting, &HashMap::new(), plan);
        let shape: Vec<(u32, Manner, usize, usize)> =
            calls.iter().map(|call| (call.turn, call.manner, call.wanted, call.shown.len())).collect();
        assert_eq!(shape, [(0, Manner::New, 10, 3), (1, Manner::Paraphrase, 10, 1), (2, Manner::New, 2, 3)]);
        assert_eq!(settler.plan(&wanting, &HashMap::new(), plan), calls, "the same rows are drawn again");
        // Nothing but copies: three texts for each one that is missing, then it is enough.
        for turn in 0..7 {
            settler.take(draft("delivery", turn, &["row 1 of class 1"; 10]));
        }
        assert!(settler.plan(&wanting, &HashMap::new(), plan).is_empty());
        assert_eq!(settler.labels(&wanting, &HashMap::new())[0].kept, 0);
    }

    #[test]
    fn what_is_kept_says_so_twice_and_every_other_text_has_a_reason() {
        let task = Task::parse(TASK).unwrap();
        let mut sieve = Sieve::default();
        sieve.add(CopyOf::Locked, "the courier left my parcel with a stranger");
        sieve.add(CopyOf::Training, "I was charged twice for one tent");
        let texts = [
            "why does the bill say ninety when I paid eighty",
            "the courier left my parcel with the stranger",
            "I was charged twice for one tent!",
            "why does the bill say ninety when I paid eighty?",
            "my friend <NAME_1> never got the refund",
            " ",
            "can somebody explain this strange fee to me",
            "no idea what it is about, sorry",
        ];
        let settler = Settler::new((&task, None), sieve, 300, vec![draft("billing", 0, &texts)]);
        assert_eq!(settler.open(&HashMap::new()).len(), 3);
        let answers = answers(&[(texts[0], "billing"), (texts[6], "returns"), (texts[7], "")]);
        assert!(settler.open(&answers).is_empty());
        let (rows, left_out) = settler.settled(&answers);
        assert_eq!(rows.iter().map(|row| row.text.as_str()).collect::<Vec<_>>(), [texts[0]]);
        assert_eq!((rows[0].source.as_str(), rows[0].written), ("teacher", Manner::New));
        let expected = LeftOut {
            unusable: 2,
            locked: 1,
            training: 1,
            written: 1,
            contradicted: 1,
            unanswered: 1,
            ..LeftOut::default()
        };
        assert_eq!(left_out, expected);
    }

    #[test]
    fn only_placeholders_are_taken_for_such() {
        assert!(has_placeholder("call <NUMBER_12> now") && has_placeholder("a <b <CARD_NUMBER_1>"));
        assert!(!has_placeholder("if a < b and <i>c_1</i> <X_> <_1> <Name_1>"));
    }
}
