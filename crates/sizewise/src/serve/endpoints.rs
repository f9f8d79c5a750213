//! What does each endpoint do?
//!
//! They all go the same way: the protocol reads the body, the task is looked up, the protocol's questions become the
//! task's, the engine decides, the protocol writes the answer. What differs is in `wire`.

use super::{
    Decider, Serving,
    access_log::Line,
    admit::Caller,
    console,
    relay::{self, Passing},
    reply::{Kind, Reply},
    routes::Endpoint,
    unix_seconds,
};
use crate::wire::{WireError, chat, decisions, live, models, native, systemone};
use hyper::{Method, StatusCode, header::HeaderMap};
use sizewise_contract::{Code, Decision};
use sizewise_engine::{Error, InputValue, LookCounts, QuestionRef, Standing, TaskInfo};
use sizewise_models::remote::Trace;
use std::sync::Arc;

/// The OpenAPI document; a test keeps it in step with the table of routes.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// Answers an admitted request.
///
/// # Errors
/// Says what is wrong with the request, or what failed.
pub(super) async fn answer<D: Decider>(
    asked: &Asked<'_, D>,
    endpoint: Endpoint,
    name: &str,
    line: &mut Line,
) -> Result<Reply, WireError> {
    let serving = asked.serving;
    let started = serving.started;
    let json = |bytes: Vec<u8>| Reply::new(Kind::Json, bytes);
    let decided = match endpoint {
        Endpoint::Decisions => asked.decisions().await?,
        Endpoint::SystemOne => asked.system_one().await?,
        Endpoint::Chat => match asked.relayed_chat().await {
            Some(reply) => return reply,
            None => asked.chat().await?,
        },
        Endpoint::Responses => return asked.pass(Passing::Responses, None).await,
        Endpoint::Embeddings => return asked.pass(Passing::Embeddings, None).await,
        Endpoint::Messages => return asked.pass(Passing::Messages, None).await,
        Endpoint::Generate => return asked.pass(Passing::Generate, Some(name)).await,
        Endpoint::StreamGenerate => return asked.pass(Passing::StreamGenerate, Some(name)).await,
        Endpoint::Decide => asked.decide(name).await?,
        Endpoint::Models => {
            let callable = serving.settings.relay.iter().flat_map(|relay| relay.names());
            let callable: Vec<&str> = callable.filter(|name| asked.caller.may_call(name)).collect();
            return Ok(json(models::list(&asked.tasks(), &callable, started)));
        }
        Endpoint::Model => {
            let relay = serving.settings.relay.as_ref();
            if relay.is_some_and(|relay| relay.knows(name, asked.caller))
                && serving.decider.task(name).is_err()
            {
                return Ok(json(models::callable(name, started)));
            }
            return Ok(json(models::one(&asked.info(name, "model")?, started)));
        }
        Endpoint::Tasks => return Ok(json(native::tasks(&asked.tasks()))),
        Endpoint::Task => return Ok(json(native::task(&asked.info(name, "task")?))),
        Endpoint::Certificate => return Ok(json(native::certificates(&asked.info(name, "task")?))),
        Endpoint::Evidence => return Ok(json(asked.evidence(name).await?)),
        Endpoint::Feedback => return Ok(json(asked.feedback(name).await?)),
        Endpoint::Healthy => return Ok(json(b"{\"status\":\"ok\"}".to_vec())),
        Endpoint::Ready => return Ok(ready(serving)),
        Endpoint::Metrics => return Ok(Reply::new(Kind::Text, metrics(serving))),
        Endpoint::OpenApi => return Ok(Reply::new(Kind::Json, OPENAPI)),
        Endpoint::Console(view) => return console::answer(asked, view, name).await,
    };
    serving.metrics.count_decisions(&decided.decisions);
    line.of_decisions(&decided.decisions);
    Ok(Reply::new(decided.kind, decided.body).with_decisions(&decided.decisions))
}

/// Decisions with the body that tells them.
struct Decided {
    decisions: Vec<Decision>,
    kind: Kind,
    body: Vec<u8>,
}

/// One admitted request with what it needs of the server.
pub(super) struct Asked<'r, D> {
    pub(super) serving: &'r Serving<D>,
    pub(super) caller: &'r Caller<'r>,
    pub(super) body: &'r [u8],
    pub(super) headers: &'r HeaderMap,
    /// What stands behind the path.
    pub(super) query: Option<&'r str>,
    /// Where the request belongs in what its caller traces.
    pub(super) trace: Option<&'r Trace>,
    pub(super) method: &'r Method,
}

impl<D: Decider> Asked<'_, D> {
    async fn decisions(&self) -> Result<Decided, WireError> {
        let request = decisions::Request::read(self.body)?;
        let info = self.info(&request.model, "model")?;
        let plan = request.plan(&info.task)?;
        let inputs = vec![request.input(&info.task)?];
        let decisions =
            self.ask(&info, (inputs, None), plan.questions.clone(), |_| "input".to_owned()).await?;
        let body = decisions.first().map(|decision| request.answer(&info.task, &plan, decision));
        Ok(Decided { decisions, kind: Kind::Json, body: body.unwrap_or_default() })
    }

    async fn system_one(&self) -> Result<Decided, WireError> {
        let request = systemone::Request::read(self.body)?;
        let info = self.info(&request.model, "model")?;
        let plan = request.plan(&info.task)?;
        let inputs = vec![request.input(&info.task)?];
        let decisions =
            self.ask(&info, (inputs, None), plan.questions.clone(), |_| "state".to_owned()).await?;
        let body = decisions.first().map(|decision| request.answer(&info.task, &plan, decision));
        Ok(Decided { decisions, kind: Kind::Json, body: body.unwrap_or_default() })
    }

    async fn chat(&self) -> Result<Decided, WireError> {
        let request = chat::Request::read(self.body)?;
        let info = self.info(&request.model, "model")?;
        let mut plan = request.plan(&info.task)?;
        let inputs = vec![std::mem::replace(&mut plan.input, InputValue::Text(String::new()))];
        let decisions = self
            .ask(&info, (inputs, request.subject()), plan.questions.clone(), |_| "messages".to_owned())
            .await?;
        let reply = decisions.first().map(|decision| chat::reply::write(&plan, decision, unix_seconds()));
        let (kind, body) = match reply {
            Some(chat::reply::Reply::Stream(body)) => (Kind::Events, body),
            Some(chat::reply::Reply::Whole(body)) => (Kind::Json, body),
            None => (Kind::Json, Vec::new()),
        };
        Ok(Decided { decisions, kind, body })
    }

    /// A chat with a provider; none where the model is a task, or nobody.
    async fn relayed_chat(&self) -> Option<Result<Reply, WireError>> {
        let relay = self.serving.settings.relay.as_ref()?;
        let model = relay::model_of(self.body)?;
        let is_task = self.serving.decider.task(&model).is_ok();
        match !is_task && relay.knows(&model, self.caller) {
            true => Some(relay.pass(Passing::Chat, (None, self.body), self.from()).await),
            false => None,
        }
    }

    /// Whatever else goes to a provider alone; `named` is the model where the path names it.
    async fn pass(&self, passing: Passing, named: Option<&str>) -> Result<Reply, WireError> {
        match &self.serving.settings.relay {
            Some(relay) => relay.pass(passing, (named, self.body), self.from()).await,
            None => Err(WireError::new(Code::UnknownRoute, None, "no provider may be called here")
                .with_hint("name some under [relay] in sizewise.toml")),
        }
    }

    /// Who asks, with what stands in the head.
    fn from(&self) -> relay::From<'_> {
        relay::From { caller: self.caller, headers: self.headers, trace: self.trace }
    }

    async fn decide(&self, name: &str) -> Result<Decided, WireError> {
        let info = self.info(name, "task")?;
        let mut plan = native::Request::read(self.body)?.plan(&info.task)?;
        let inputs = std::mem::take(&mut plan.inputs);
        let decisions =
            self.ask(&info, (inputs, None), plan.questions.clone(), |position| plan.place(position)).await?;
        let body = native::answer(&info.task, &plan, &decisions);
        Ok(Decided { decisions, kind: Kind::Json, body })
    }

    async fn feedback(&self, name: &str) -> Result<Vec<u8>, WireError> {
        let info = self.info(name, "task")?;
        let request = live::Request::read(self.body)?;
        let feedback = request.feedback(&info.task, self.caller.key_id());
        let (decider, told) = (Arc::clone(&self.serving.decider), feedback.clone());
        let fed = beside(move || decider.feedback(&told)).await?;
        Ok(live::fed(&feedback, fed))
    }

    async fn evidence(&self, name: &str) -> Result<Vec<u8>, WireError> {
        let info = self.info(name, "task")?;
        let (decider, task) = (Arc::clone(&self.serving.decider), info.task.name.clone());
        let evidence = beside(move || decider.evidence(&task)).await?;
        Ok(live::evidence(&info, &evidence))
    }

    /// The tasks that are there for the caller.
    pub(super) fn tasks(&self) -> Vec<TaskInfo> {
        let tasks = self.serving.decider.tasks().into_iter();
        tasks.filter(|info| self.caller.may_ask(&info.task.name)).collect()
    }

    pub(super) fn info(&self, name: &str, param: &str) -> Result<TaskInfo, WireError> {
        let found = match self.serving.decider.task(name) {
            // Somebody else's task is not there, and its name is no help either.
            Ok(info) if !self.caller.may_ask(&info.task.name) => Err(unknown(name)),
            Err(Error::UnknownTask { meant: Some(meant), .. }) if !self.caller.may_ask(&meant) => {
                Err(unknown(name))
            }
            found => found,
        };
        found.map_err(|error| WireError::of_engine(&error, |_| String::new()).with_param(param))
    }

    async fn ask(
        &self,
        info: &TaskInfo,
        (inputs, subject): (Vec<InputValue>, Option<String>),
        questions: Option<Vec<QuestionRef>>,
        place: impl Fn(usize) -> String,
    ) -> Result<Vec<Decision>, WireError> {
        let count = inputs.len();
        let request = sizewise_engine::Request {
            task: info.task.name.clone(),
            inputs,
            questions: questions.clone(),
            subject: self.caller.subject.clone().or(subject),
            group: self.caller.group.clone(),
            key_id: self.caller.key_id().map(str::to_owned),
            purses: self.caller.purses(),
            dry_run: false,
            trace: self.trace.cloned(),
        };
        let decisions = self
            .serving
            .decider
            .decide(request)
            .await
            .map_err(|error| WireError::of_engine(&error, place))?;
        let fits = decisions.len() == count
            && decisions.iter().all(|decision| answers_what_was_asked(decision, info, questions.as_deref()));
        if fits {
            return Ok(decisions);
        }
        // A new release was put in force between the look-up and the decision.
        Err(WireError::new(Code::Overloaded, None, format!("task `{}` was just replaced", info.task.name))
            .with_hint("send the request again"))
    }
}

/// Waits for the disk without holding up other requests.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, WireError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or(Err(Error::Internal("work beside the requests ends")));
    done.map_err(|error| WireError::of_engine(&error, |_| String::new()))
}

fn unknown(name: &str) -> Error {
    Error::UnknownTask { name: name.chars().take(100).collect(), meant: None }
}

fn answers_what_was_asked(decision: &Decision, info: &TaskInfo, asked: Option<&[QuestionRef]>) -> bool {
    let names = |position: usize| info.task.questions.get(position).map(|question| question.name.as_str());
    let count = asked.map_or(info.task.questions.len(), <[QuestionRef]>::len);
    decision.answers.len() == count
        && decision.answers.iter().enumerate().all(|(place, answer)| {
            let position = asked.map_or(Some(place), |asked| asked.get(place).map(|question| question.0));
            position.and_then(names) == Some(answer.question.as_str())
        })
}

fn ready<D: Decider>(serving: &Serving<D>) -> Reply {
    let tasks = serving.decider.tasks().len();
    let served = tasks > 0 || serving.settings.relay.is_some();
    let (reason, status) = match (serving.is_draining(), served) {
        (true, _) => ("stopping", StatusCode::SERVICE_UNAVAILABLE),
        (false, false) => ("no task is served", StatusCode::SERVICE_UNAVAILABLE),
        (false, true) => ("ready", StatusCode::OK),
    };
    let body = format!("{{\"status\":\"{reason}\",\"tasks\":{tasks}}}");
    Reply::new(Kind::Json, body).with_status(status)
}

/// How every promise stands, by task.
fn promises<D: Decider>(serving: &Serving<D>) -> Vec<(String, Standing)> {
    let of_task = |info: TaskInfo| {
        let standings = serving.decider.standings(&info.task.name);
        standings.into_iter().map(move |one| (info.task.name.clone(), one))
    };
    serving.decider.tasks().into_iter().flat_map(of_task).collect()
}

fn looks<D: Decider>(serving: &Serving<D>) -> Vec<(String, LookCounts)> {
    let of_task = |info: TaskInfo| {
        let counts = serving.decider.look_counts(&info.task.name)?;
        Some((info.task.name.clone(), counts))
    };
    serving.decider.tasks().into_iter().filter_map(of_task).collect()
}

fn metrics<D: Decider>(serving: &Serving<D>) -> String {
    serving.metrics.render(&super::metrics::Gauges {
        requests_in_flight: serving
            .settings
            .concurrent_requests
            .saturating_sub(serving.places.available_permits()),
        body_bytes_held: serving
            .settings
            .body_budget_bytes
            .saturating_sub(serving.free_body_bytes.load(std::sync::atomic::Ordering::Relaxed)),
        log_lines_dropped: serving.log.dropped(),
        telemetry: serving.settings.telemetry.as_ref().map(|telemetry| telemetry.counts()),
        observed: serving.settings.relay.as_ref().and_then(|relay| relay.observed()),
        started: serving.started,
        queues: serving.decider.queue_depths(),
        providers: {
            let relayed = serving.settings.relay.iter().flat_map(|relay| relay.states());
            relayed.chain(serving.decider.providers()).collect()
        },
        promises: promises(serving),
        trials: serving.decider.trials(),
        looks: looks(serving),
        tasks: serving.decider.tasks(),
    })
}
