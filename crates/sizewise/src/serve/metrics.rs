//! What does the server count, and how does Prometheus read it?
//!
//! Counters are plain atomics behind the number of the route and of the status; decisions are counted per task, whose names are
//! those of tasks that are served, so a caller cannot make the table grow. The text format is Prometheus exposition 0.0.4.

mod trials;

use super::routes::ROUTES;
use hyper::StatusCode;
use sizewise_contract::{Decision, Disposition, EscalationReason, Tier, answer::Recalled};
use sizewise_engine::{LookCounts, Standing, TaskInfo, TrialStanding};
use sizewise_models::remote::ProviderState;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Statuses that the server gives; the last counts any other.
const STATUSES: [u16; 12] = [200, 400, 401, 403, 404, 405, 408, 413, 415, 500, 503, 0];
/// Upper ends of the buckets of the histogram, in microseconds.
const BUCKETS_US: [u64; 15] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    10_000_000,
];
/// The tiers in the order of their counters.
const TIERS: [Tier; 6] =
    [Tier::Rules, Tier::Static, Tier::Encoder, Tier::Generator, Tier::Remote, Tier::Person];
/// The dispositions in the order of their counters.
const DISPOSITIONS: [&str; 6] =
    ["answered", "below_threshold", "out_of_scope", "not_certified", "promise_in_doubt", "new_kind"];

/// Whose answers are given again, in the order of their counters.
const RECALLED: [Recalled; 2] = [Recalled::Same, Recalled::Similar];

/// A metric of a provider: its name, kind and help, and where it comes from.
type OfProvider = (&'static str, &'static str, &'static str, fn(&ProviderState) -> u64);
/// What is told of every provider.
const PROVIDERS: [OfProvider; 4] = [
    ("sizewise_provider_calls_total", "counter", "Calls to a provider.", |state| state.calls),
    ("sizewise_provider_failures_total", "counter", "Calls that failed.", |state| state.failures),
    ("sizewise_provider_hedges_total", "counter", "Calls made because another call took long.", |state| {
        state.hedges
    }),
    ("sizewise_provider_resting", "gauge", "Whether a provider is left alone for now.", |state| {
        u64::from(state.resting)
    }),
];

/// How much waits in one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDepth {
    /// The queue, as `review` or `encoder`.
    pub queue: String,
    /// What waits in it.
    pub waiting: u64,
}

/// The counters of a server.
pub(super) struct Metrics {
    routes: Vec<RouteCounters>,
    tasks: RwLock<BTreeMap<String, Arc<TaskCounters>>>,
    connections: AtomicU64,
}

#[derive(Default)]
struct RouteCounters {
    statuses: [AtomicU64; STATUSES.len()],
    buckets: [AtomicU64; BUCKETS_US.len()],
    elapsed_us: AtomicU64,
}

#[derive(Default)]
struct TaskCounters {
    /// Answers of larger models that were given again, to the same and to a similar input.
    recalled: [AtomicU64; RECALLED.len()],
    answers: [[AtomicU64; DISPOSITIONS.len()]; TIERS.len()],
    releases: trials::Releases,
}

/// What is known elsewhere at the moment of reading.
pub(super) struct Gauges {
    pub(super) requests_in_flight: usize,
    pub(super) body_bytes_held: usize,
    pub(super) log_lines_dropped: u64,
    /// Relayed calls that were recorded, and those that should have been and were not.
    pub(super) observed: Option<(u64, u64)>,
    /// Spans that were exported, and those that were dropped.
    pub(super) telemetry: Option<(u64, u64)>,
    pub(super) started: u64,
    pub(super) queues: Vec<QueueDepth>,
    pub(super) tasks: Vec<TaskInfo>,
    /// How every promise stands, by task.
    pub(super) promises: Vec<(String, Standing)>,
    /// Releases that are tried.
    pub(super) trials: Vec<TrialStanding>,
    /// What came of looking for new kinds of input, by task.
    pub(super) looks: Vec<(String, LookCounts)>,
    pub(super) providers: BTreeMap<String, ProviderState>,
}

impl Metrics {
    /// Counters at zero.
    pub(super) fn new() -> Self {
        Self {
            // One more for requests that met no route.
            routes: (0..=ROUTES.len()).map(|_| RouteCounters::default()).collect(),
            tasks: RwLock::default(),
            connections: AtomicU64::new(0),
        }
    }

    /// Counts a request.
    pub(super) fn count(&self, route: usize, status: StatusCode, elapsed: Duration) {
        let Some(counters) = self.routes.get(route) else { return };
        let place = STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(STATUSES.len() - 1);
        let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        add(counters.statuses.get(place), 1);
        add(Some(&counters.elapsed_us), elapsed_us);
        add(counters.buckets.get(BUCKETS_US.partition_point(|end| *end < elapsed_us)), 1);
    }

    /// Counts the answers of some decisions of one task.
    pub(super) fn count_decisions(&self, decisions: &[Decision]) {
        let Some(first) = decisions.first() else { return };
        let counters = self.of_task(&first.task);
        counters.releases.count(decisions);
        for answer in decisions.iter().flat_map(|decision| &decision.answers) {
            let tier = TIERS.iter().position(|known| *known == answer.tier);
            let disposition = match answer.disposition {
                Disposition::Answered => 0,
                Disposition::Escalated { reason: EscalationReason::BelowThreshold, .. } => 1,
                Disposition::Escalated { reason: EscalationReason::OutOfScope, .. } => 2,
                Disposition::Escalated { reason: EscalationReason::NotCertified, .. } => 3,
                Disposition::Escalated { reason: EscalationReason::PromiseInDoubt, .. } => 4,
                Disposition::Escalated { reason: EscalationReason::NewKind, .. } => 5,
            };
            add(tier.and_then(|tier| counters.answers.get(tier)?.get(disposition)), 1);
            if let Some(recalled) = answer.remote.as_ref().and_then(|remote| remote.recalled) {
                let place = RECALLED.iter().position(|known| *known == recalled);
                add(place.and_then(|place| counters.recalled.get(place)), 1);
            }
        }
    }

    /// Counts a connection as open until the guard is dropped.
    pub(super) fn connection(&self) -> Connection<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connection(&self.connections)
    }

    fn of_task(&self, name: &str) -> Arc<TaskCounters> {
        if let Some(known) = self.tasks.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(known);
        }
        let mut tasks = self.tasks.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(tasks.entry(name.to_owned()).or_default())
    }

    /// Writes everything in the text format.
    pub(super) fn render(&self, gauges: &Gauges) -> String {
        let mut text = String::with_capacity(16 << 10);
        self.render_requests(&mut text);
        self.render_decisions(&mut text);
        let family = |text: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        for (name, help, value) in [
            ("sizewise_http_connections", "Open connections.", self.connections.load(Ordering::Relaxed)),
            (
                "sizewise_http_requests_in_flight",
                "Requests being worked on.",
                gauges.requests_in_flight as u64,
            ),
            (
                "sizewise_http_body_bytes_held",
                "Bytes of bodies held in memory.",
                gauges.body_bytes_held as u64,
            ),
            ("sizewise_start_time_seconds", "When the server started, since 1970.", gauges.started),
        ] {
            family(&mut text, name, "gauge", help);
            let _ = writeln!(text, "{name} {value}");
        }
        family(
            &mut text,
            "sizewise_log_lines_dropped_total",
            "counter",
            "Log lines dropped because nobody read them.",
        );
        let _ = writeln!(text, "sizewise_log_lines_dropped_total {}", gauges.log_lines_dropped);
        for (name, help, count) in [
            (
                "sizewise_observed_calls_total",
                "Relayed calls that were recorded.",
                gauges.observed.map(|o| o.0),
            ),
            (
                "sizewise_observed_dropped_total",
                "Relayed calls not recorded, as there were too many, they were too large, or the store failed.",
                gauges.observed.map(|o| o.1),
            ),
            (
                "sizewise_spans_exported_total",
                "Spans that a collector took.",
                gauges.telemetry.map(|spans| spans.0),
            ),
            (
                "sizewise_spans_dropped_total",
                "Spans that were dropped, as there were too many or nobody took them.",
                gauges.telemetry.map(|spans| spans.1),
            ),
        ] {
            if let Some(count) = count {
                family(&mut text, name, "counter", help);
                let _ = writeln!(text, "{name} {count}");
            }
        }
        family(&mut text, "sizewise_queue_depth", "gauge", "What waits in each queue.");
        for QueueDepth { queue, waiting } in &gauges.queues {
            let _ = writeln!(text, "sizewise_queue_depth{{queue=\"{}\"}} {waiting}", escaped(queue));
        }
        family(
            &mut text,
            "sizewise_task_certified",
            "gauge",
            "Whether every question of a task has a certificate.",
        );
        for info in &gauges.tasks {
            let (task, release) = (escaped(&info.task.name), info.release.short());
            let certified = u8::from(info.certified);
            let _ = writeln!(
                text,
                "sizewise_task_certified{{task=\"{task}\",release=\"{release}\"}} {certified}"
            );
        }
        promises(&mut text, &gauges.promises);
        trials::render(&mut text, &gauges.trials);
        looks(&mut text, &gauges.looks);
        for (name, kind, help, value) in PROVIDERS {
            family(&mut text, name, kind, help);
            for (provider, state) in &gauges.providers {
                let _ = writeln!(text, "{name}{{provider=\"{}\"}} {}", escaped(provider), value(state));
            }
        }
        text
    }

    fn render_requests(&self, text: &mut String) {
        let labels = || ROUTES.iter().map(|route| (route.method, route.path)).chain([("", "none")]);
        text.push_str("# HELP sizewise_http_requests_total Requests by route and status.\n");
        text.push_str("# TYPE sizewise_http_requests_total counter\n");
        for ((method, route), counters) in labels().zip(&self.routes) {
            for (status, count) in STATUSES.iter().zip(&counters.statuses) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let status = if *status == 0 { "other".to_owned() } else { status.to_string() };
                    let _ = writeln!(
                        text,
                        "sizewise_http_requests_total{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}} {count}"
                    );
                }
            }
        }
        text.push_str(
            "# HELP sizewise_http_request_duration_seconds From the head of a request to its reply.\n",
        );
        text.push_str("# TYPE sizewise_http_request_duration_seconds histogram\n");
        for ((_, route), counters) in labels().zip(&self.routes) {
            // Read first, so that no bucket is ever above the total.
            let total: u64 = counters.statuses.iter().map(|count| count.load(Ordering::Relaxed)).sum();
            if total == 0 {
                continue;
            }
            let name = "sizewise_http_request_duration_seconds";
            let mut below = 0;
            for (end, count) in BUCKETS_US.iter().zip(&counters.buckets) {
                below = (below + count.load(Ordering::Relaxed)).min(total);
                let end = *end as f64 / 1e6;
                let _ = writeln!(text, "{name}_bucket{{route=\"{route}\",le=\"{end}\"}} {below}");
            }
            let sum = counters.elapsed_us.load(Ordering::Relaxed) as f64 / 1e6;
            let _ = writeln!(text, "{name}_bucket{{route=\"{route}\",le=\"+Inf\"}} {total}");
            let _ = writeln!(text, "{name}_sum{{route=\"{route}\"}} {sum}");
            let _ = writeln!(text, "{name}_count{{route=\"{route}\"}} {total}");
        }
    }

    fn render_decisions(&self, text: &mut String) {
        text.push_str(
            "# HELP sizewise_decisions_total Decisions by task and release, of the latest releases.\n# TYPE sizewise_decisions_total counter\n",
        );
        for (task, counters) in self.tasks.read().unwrap_or_else(PoisonError::into_inner).iter() {
            counters.releases.render(text, task);
        }
        text.push_str(
            "# HELP sizewise_answers_total Answers by task, last tier asked and what became of them.\n",
        );
        text.push_str("# TYPE sizewise_answers_total counter\n");
        for (task, counters) in self.tasks.read().unwrap_or_else(PoisonError::into_inner).iter() {
            for (tier, row) in TIERS.iter().zip(&counters.answers) {
                for (disposition, count) in DISPOSITIONS.iter().zip(row) {
                    let count = count.load(Ordering::Relaxed);
                    if count > 0 {
                        let task = escaped(task);
                        let _ = writeln!(
                            text,
                            "sizewise_answers_total{{task=\"{task}\",tier=\"{tier}\",disposition=\"{disposition}\"}} {count}"
                        );
                    }
                }
            }
        }
        text.push_str("# HELP sizewise_recalled_answers_total Answers of larger models given again, to the same or a similar input.\n");
        text.push_str("# TYPE sizewise_recalled_answers_total counter\n");
        for (task, counters) in self.tasks.read().unwrap_or_else(PoisonError::into_inner).iter() {
            for (recalled, count) in RECALLED.iter().zip(&counters.recalled) {
                let (task, count) = (escaped(task), count.load(Ordering::Relaxed));
                if count > 0 {
                    let _ = writeln!(
                        text,
                        "sizewise_recalled_answers_total{{task=\"{task}\",input=\"{}\"}} {count}",
                        recalled.name()
                    );
                }
            }
        }
    }
}

/// How promises stand.
fn promises(text: &mut String, promises: &[(String, Standing)]) {
    type Of = fn(&Standing) -> f64;
    let metrics: [(&str, &str, Of); 6] = [
        ("sizewise_promise_state", "How a promise stands: 0 kept, 1 in doubt, 2 broken.", |one| {
            trials::weight(one.state)
        }),
        (
            "sizewise_promise_threshold",
            "From which confidence answers are given; above 1 nothing is.",
            |one| one.threshold.unwrap_or(2.0),
        ),
        ("sizewise_served_error_low", "Lower bound of the share of wrong answers.", |one| {
            one.served_error.low
        }),
        ("sizewise_served_error_high", "Upper bound of the share of wrong answers.", |one| {
            one.served_error.high
        }),
        ("sizewise_probes_drawn", "Requests of the release that were drawn as probes.", |one| {
            one.probes.drawn as f64
        }),
        ("sizewise_probes_told", "Probes of which the truth is known.", |one| one.probes.told as f64),
    ];
    for (name, help, of) in metrics {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (task, one) in promises {
            let (task, question) = (escaped(task), escaped(&one.question));
            let _ = writeln!(text, "{name}{{task=\"{task}\",question=\"{question}\"}} {}", of(one));
        }
    }
}

/// What came of looking for new kinds of input.
fn looks(text: &mut String, looks: &[(String, LookCounts)]) {
    type Of = fn(&LookCounts) -> u64;
    let metrics: [(&str, &str, &str, Of); 3] = [
        ("sizewise_new_kinds", "gauge", "New kinds of input that are proposed to people.", |one| {
            one.proposed
        }),
        ("sizewise_looks_total", "counter", "Requests looked at for new kinds of input.", |one| one.looked),
        (
            "sizewise_looks_dropped_total",
            "counter",
            "Requests that were to be looked at and were not, as too much waited.",
            |one| one.dropped,
        ),
    ];
    for (name, kind, help, of) in metrics {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (task, one) in looks {
            let _ = writeln!(text, "{name}{{task=\"{}\"}} {}", escaped(task), of(one));
        }
    }
}

/// An open connection.
pub(super) struct Connection<'m>(&'m AtomicU64);

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn add(counter: Option<&AtomicU64>, count: u64) {
    if let Some(counter) = counter {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{escalated, support_decision};

    fn render(metrics: &Metrics) -> String {
        metrics.render(&Gauges {
            requests_in_flight: 3,
            body_bytes_held: 0,
            log_lines_dropped: 0,
            observed: Some((5, 1)),
            telemetry: Some((9, 2)),
            started: 1,
            queues: vec![QueueDepth { queue: "re\"view".into(), waiting: 2 }],
            tasks: Vec::new(),
            promises: Vec::new(),
            trials: Vec::new(),
            looks: vec![("desk".into(), LookCounts { looked: 40, dropped: 2, proposed: 1 })],
            providers: BTreeMap::from([(
                "primary".to_owned(),
                ProviderState { calls: 7, failures: 2, hedges: 1, resting: true, problem: None },
            )]),
        })
    }

    #[test]
    fn requests_are_counted_by_route_status_and_time() {
        let metrics = Metrics::new();
        for micros in [40, 50, 51, 20_000_000] {
            metrics.count(0, StatusCode::OK, Duration::from_micros(micros));
        }
        metrics.count(ROUTES.len(), StatusCode::IM_A_TEAPOT, Duration::ZERO);
        let text = render(&metrics);
        for line in [
            r#"sizewise_http_requests_total{method="POST",route="/v1/decisions",status="200"} 4"#,
            r#"sizewise_http_requests_total{method="",route="none",status="other"} 1"#,
            r#"sizewise_http_request_duration_seconds_bucket{route="/v1/decisions",le="0.00005"} 2"#,
            r#"sizewise_http_request_duration_seconds_bucket{route="/v1/decisions",le="0.0001"} 3"#,
            r#"sizewise_http_request_duration_seconds_bucket{route="/v1/decisions",le="10"} 3"#,
            r#"sizewise_http_request_duration_seconds_bucket{route="/v1/decisions",le="+Inf"} 4"#,
            r#"sizewise_http_request_duration_seconds_count{route="/v1/decisions"} 4"#,
            r#"sizewise_queue_depth{queue="re\"view"} 2"#,
            "sizewise_http_requests_in_flight 3",
            "sizewise_observed_dropped_total 1",
            "sizewise_spans_dropped_total 2",
            r#"sizewise_provider_failures_total{provider="primary"} 2"#,
            r#"sizewise_provider_hedges_total{provider="primary"} 1"#,
            r#"sizewise_provider_resting{provider="primary"} 1"#,
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn answers_are_counted_by_what_became_of_them() {
        let metrics = Metrics::new();
        metrics.count_decisions(&[support_decision(), escalated(0)]);
        let text = render(&metrics);
        for line in [
            r#"sizewise_answers_total{task="support",tier="static",disposition="answered"} 5"#,
            r#"sizewise_answers_total{task="support",tier="static",disposition="below_threshold"} 1"#,
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_connection_is_open_until_its_guard_is_dropped() {
        let metrics = Metrics::new();
        let guard = metrics.connection();
        assert!(render(&metrics).contains("sizewise_http_connections 1"));
        drop(guard);
        assert!(render(&metrics).contains("sizewise_http_connections 0"));
    }
}
