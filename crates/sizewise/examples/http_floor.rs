//! What does HTTP cost alone? Serves a task whose decision is fixed, so that nothing but protocol and server is measured.
//!
//! ```text
//! cargo run --release --example http_floor -- 127.0.0.1:8099      # prints its address and process id; ends with its input
//! cargo run --release --example http_load -- --address 127.0.0.1:8099 --pid PID
//! ```

use sizewise::serve::{self, Decider, KeyCheck, Member, Settings};
use sizewise_contract::{
    Answer, ContentHash, Decision, Disposition, EscalationReason, Task, Tier, answer::EscalatedTo,
    did_you_mean, limits, units::MicroUsd,
};
use sizewise_engine::{Error, InputValue, Request, TaskInfo};
use sizewise_store::{Holder, Rights};
use std::{io::Read, num::NonZeroUsize, sync::Arc};

const TASK: &str = r#"
    schema = 1
    name = "support"
    [input]
    fields = ["message"]
    [[question]]
    name = "team"
    type = "choice"
    instructions = "Which team should handle this message?"
    choices = [
        { value = "order_status" }, { value = "delivery_problem" }, { value = "returns" }, { value = "refund_status" },
        { value = "billing" }, { value = "account_access" }, { value = "product_question" },
        { value = "warranty_repair" }, { value = "change_cancel" }, { value = "membership" },
        { value = "privacy_data" }, { value = "business_sales" },
    ]
    out_of_scope_label = "out_of_scope"
    [[question]]
    name = "urgent"
    type = "predicate"
    instructions = "Would waiting one working day do harm?"
"#;

struct Fixed {
    info: TaskInfo,
}

impl Fixed {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let task = Task::parse(TASK)?;
        Ok(Self {
            info: TaskInfo {
                task: Arc::new(task),
                release: ContentHash::of(b"fixed"),
                certificates: Arc::new([]),
                certified: false,
            },
        })
    }

    fn answer(&self, position: usize, sure: bool) -> Option<Answer> {
        let question = self.info.task.questions.get(position)?;
        let classes = question.class_values();
        let probability = 1.0 / classes.len() as f32;
        Some(Answer {
            question: question.name.clone(),
            disposition: if sure {
                Disposition::Answered
            } else {
                Disposition::Escalated { reason: EscalationReason::BelowThreshold, to: EscalatedTo::Person }
            },
            value: (*classes.first()?).to_owned(),
            class: 0,
            confidence: Some(if sure { 0.98 } else { 0.31 }),
            threshold: Some(0.9),
            probabilities: vec![probability; classes.len()],
            tier: Tier::Static,
            certified: false,
            handed_on: None,
            remote: None,
            path: Vec::new(),
        })
    }
}

impl Decider for Fixed {
    async fn decide(&self, request: Request) -> Result<Vec<Decision>, Error> {
        let all = 0..self.info.task.questions.len();
        let asked: Vec<usize> =
            request.questions.map_or(all.collect(), |list| list.iter().map(|question| question.0).collect());
        let decide = |(position, input): (usize, &InputValue)| {
            let text = input.render(&self.info.task.input.fields).unwrap_or_default();
            // One word that nobody is sure about, so that clients can be shown what that looks like.
            let sure = !text.contains("hamster");
            match text.len() {
                0 => return Err(Error::Input { position, problem: "the input is empty".into() }),
                size if size > limits::INPUT_BYTES => return Err(Error::InputTooLong { position, size }),
                _ => {}
            }
            Ok(Decision {
                id: "fixed".into(),
                task: self.info.task.name.clone(),
                release: self.info.release,
                certified: false,
                answers: asked.iter().filter_map(|position| self.answer(*position, sure)).collect(),
                elapsed_us: 1,
                cost_micro_usd: MicroUsd(0),
                input_tokens: 0,
            })
        };
        request.inputs.iter().enumerate().map(decide).collect()
    }

    fn task(&self, name: &str) -> Result<TaskInfo, Error> {
        if name == self.info.task.name {
            Ok(self.info.clone())
        } else {
            let meant = did_you_mean(name, [self.info.task.name.as_str()]).map(str::to_owned);
            Err(Error::UnknownTask { name: name.to_owned(), meant })
        }
    }

    fn tasks(&self) -> Vec<TaskInfo> {
        vec![self.info.clone()]
    }
}

/// No key, or the one in `SIZEWISE_FLOOR_KEY`.
struct OneKey(Option<String>);

impl KeyCheck for OneKey {
    fn any(&self) -> bool {
        self.0.is_some()
    }

    fn verify(&self, key: &str) -> Option<Arc<Member>> {
        (self.0.as_deref() == Some(key)).then(|| {
            let holder = Arc::new(Holder { id: "key-1".into(), rights: Rights::default() });
            Arc::new(Member { holder, quotas: Vec::new() })
        })
    }

    fn by_id(&self, _: &str) -> Option<Arc<Member>> {
        None
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bind = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned()).parse()?;
    let settings = Settings { bind, workers: NonZeroUsize::MIN, ..Settings::default() };
    let keys = Arc::new(OneKey(std::env::var("SIZEWISE_FLOOR_KEY").ok()));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        // The end of the input is the order to stop.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = stop.send(());
    });
    let ready = |address| println!("serving on http://{address} as process {}", std::process::id());
    let shutdown = async {
        let _ = stopped.await;
    };
    serve::run(settings, keys, Arc::new(Fixed::new()?), ready, shutdown)?;
    Ok(())
}
