//! How are spans written in OpenTelemetry's protocol, as JSON?
//!
//! Source: OTLP 1.x, "JSON Protobuf Encoding": names in lowerCamelCase, ids in hex, whole numbers of 64 bits as text, kinds and statuses as
//! numbers. Attributes are those of the semantic conventions for HTTP and for generative models; what they have no word for is
//! `sizewise.*`.

use super::{Decided, RequestSpan, Span};
use sizewise_models::remote::Call;
use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Kinds of spans.
const SERVER: u8 = 2;
const CLIENT: u8 = 3;
/// Flags beside the lowest, which says that a span is sampled: whether the parent's place is known, and that it is elsewhere.
const KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// A request to export these spans.
pub(super) fn write(service: &str, spans: &[Span]) -> Vec<u8> {
    let mut text = String::with_capacity(256 + 1_024 * spans.len());
    text.push_str("{\"resourceSpans\":[{\"resource\":{\"attributes\":[");
    let mut resource = Attributes::new(&mut text);
    resource.text("service.name", service);
    resource.text("service.version", env!("CARGO_PKG_VERSION"));
    let scope = concat!("{\"name\":\"sizewise\",\"version\":\"", env!("CARGO_PKG_VERSION"), "\"}");
    let _ = write!(text, "]}},\"scopeSpans\":[{{\"scope\":{scope},\"spans\":[");
    for (number, span) in spans.iter().enumerate() {
        if number > 0 {
            text.push(',');
        }
        match span {
            Span::Request(span) => request(&mut text, span),
            Span::Call(call) => provider_call(&mut text, call),
        }
    }
    text.push_str("]}]}]}");
    text.into_bytes()
}

fn request(text: &mut String, span: &RequestSpan) {
    let traced = &span.traced;
    let flags = 1 | KNOWN | if traced.parent.is_some() { REMOTE } else { 0 };
    let (method, path) = span.route;
    let name = format!("{method} {path}");
    let ids = (traced.context.trace_id, traced.context.span_id, traced.parent);
    begin(text, ids, (&name, SERVER, flags), (traced.begun, span.elapsed));
    let mut attributes = Attributes::new(text);
    attributes.text("http.request.method", method);
    attributes.text("http.route", path);
    attributes.int("http.response.status_code", u64::from(span.status));
    attributes.text("sizewise.request.id", &span.request_id);
    if let Some(code) = span.code {
        attributes.text("error.type", code);
    }
    if let Some(key) = &span.key_id {
        attributes.text("sizewise.key.id", key);
    }
    if let Some(decided) = &span.decided {
        decision(&mut attributes, decided);
    }
    // What callers do wrong is no error of the server (semantic conventions for HTTP).
    end(text, span.status >= 500);
}

fn decision(attributes: &mut Attributes<'_>, decided: &Decided) {
    attributes.text("gen_ai.operation.name", "decide");
    attributes.text("gen_ai.provider.name", "sizewise");
    attributes.text("gen_ai.request.model", &decided.task);
    attributes.text("gen_ai.response.model", &decided.release);
    attributes.int("gen_ai.usage.input_tokens", decided.input_tokens);
    attributes.text("sizewise.task", &decided.task);
    attributes.text("sizewise.release", &decided.release);
    attributes.int("sizewise.decisions", decided.decisions as u64);
    attributes.flag("sizewise.certified", decided.certified);
    attributes.int("sizewise.cost.micro_usd", decided.cost_micro_usd);
    attributes.texts("sizewise.tier", &decided.tiers);
    if !decided.reasons.is_empty() {
        attributes.texts("sizewise.reason", &decided.reasons);
    }
    if let Some(id) = &decided.decision_id {
        attributes.text("gen_ai.response.id", id);
        attributes.text("sizewise.decision.id", id);
    }
}

fn provider_call(text: &mut String, call: &Call) {
    let name = format!("{} {}", call.operation, call.model);
    let ids = (call.context.trace_id, call.context.span_id, Some(call.parent));
    begin(text, ids, (&name, CLIENT, 1 | KNOWN), (call.begun, call.elapsed));
    let mut attributes = Attributes::new(text);
    attributes.text("gen_ai.operation.name", call.operation);
    attributes.text("gen_ai.provider.name", call.provider.dialect().convention().0);
    attributes.text("gen_ai.request.model", &call.model);
    attributes.text("server.address", call.provider.host());
    attributes.int("server.port", u64::from(call.provider.port()));
    attributes.text("sizewise.provider", call.provider.name());
    if let Some(status) = call.status {
        attributes.int("http.response.status_code", u64::from(status));
    }
    match &call.outcome {
        Ok(answered) => {
            if let Some(model) = &answered.model {
                attributes.text("gen_ai.response.model", model);
            }
            if let Some(usage) = answered.usage {
                attributes.int("gen_ai.usage.input_tokens", usage.read);
                attributes.int("gen_ai.usage.output_tokens", usage.written);
            }
        }
        Err(kind) => match call.status.filter(|status| !(200..=299).contains(status)) {
            Some(status) => attributes.text("error.type", &status.to_string()),
            None => attributes.text("error.type", kind),
        },
    }
    end(text, call.outcome.is_err());
}

/// Everything of a span before its attributes.
fn begin(
    text: &mut String,
    (trace_id, span_id, parent): (u128, u64, Option<u64>),
    (name, kind, flags): (&str, u8, u32),
    (begun, elapsed): (SystemTime, Duration),
) {
    let start = begun.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (start, end) = (start.as_nanos(), (start + elapsed).as_nanos());
    let _ = write!(text, "{{\"traceId\":\"{trace_id:032x}\",\"spanId\":\"{span_id:016x}\",");
    if let Some(parent) = parent {
        let _ = write!(text, "\"parentSpanId\":\"{parent:016x}\",");
    }
    text.push_str("\"name\":");
    quoted(text, name);
    let _ = write!(
        text,
        ",\"kind\":{kind},\"flags\":{flags},\"startTimeUnixNano\":\"{start}\",\"endTimeUnixNano\":\"{end}\",\"attributes\":["
    );
}

fn end(text: &mut String, failed: bool) {
    text.push_str(if failed { "],\"status\":{\"code\":2}}" } else { "],\"status\":{}}" });
}

fn quoted(text: &mut String, value: &str) {
    // A text is always JSON.
    text.push_str(&serde_json::to_string(value).unwrap_or_default());
}

/// The attributes of one span, one after the other.
struct Attributes<'t> {
    text: &'t mut String,
    any: bool,
}

impl<'t> Attributes<'t> {
    fn new(text: &'t mut String) -> Self {
        Self { text, any: false }
    }

    fn text(&mut self, key: &str, value: &str) {
        self.one(key, |text| {
            text.push_str("{\"stringValue\":");
            quoted(text, value);
            text.push('}');
        });
    }

    fn int(&mut self, key: &str, value: u64) {
        // Numbers of the protocol have a sign.
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.one(key, |text| {
            let _ = write!(text, "{{\"intValue\":\"{value}\"}}");
        });
    }

    fn flag(&mut self, key: &str, value: bool) {
        self.one(key, |text| {
            let _ = write!(text, "{{\"boolValue\":{value}}}");
        });
    }

    fn texts(&mut self, key: &str, values: &[&str]) {
        self.one(key, |text| {
            text.push_str("{\"arrayValue\":{\"values\":[");
            for (number, value) in values.iter().enumerate() {
                text.push_str(if number > 0 { ",{\"stringValue\":" } else { "{\"stringValue\":" });
                quoted(text, value);
                text.push('}');
            }
            text.push_str("]}}");
        });
    }

    fn one(&mut self, key: &str, value: impl FnOnce(&mut String)) {
        let comma = if std::mem::replace(&mut self.any, true) { "," } else { "" };
        let _ = write!(self.text, "{comma}{{\"key\":\"{key}\",\"value\":");
        value(self.text);
        self.text.push('}');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use crate::{telemetry::Traced, wire::testing::support_decision};
    use serde_json::{Value, json};
    use sizewise_models::remote::{Answered, Context, Provider, Usage};
    use std::sync::Arc;

    /// The example of W3C Trace Context.
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
        let all = span["attributes"].as_array().unwrap();
        all.iter().find(|one| one["key"] == key).map_or(&Value::Null, |one| &one["value"])
    }

    #[test]
    fn spans_are_written_as_the_protocol_wants_them() {
        let parent = Context::read(PARENT).unwrap();
        let begun = UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
        let context = Context { span_id: 0xab, ..parent };
        let traced = Traced { context, parent: Some(parent.span_id), begun };
        let request = RequestSpan {
            traced,
            elapsed: Duration::from_nanos(211),
            route: ("POST", "/v1/decisions"),
            status: 503,
            code: Some("overloaded"),
            request_id: "a \"quoted\" one".into(),
            key_id: Some("k1".into()),
            decided: Decided::of(&[support_decision()]),
        };
        let settings = r#"{ "url": "http://127.0.0.1:9999/v1", "model": "m-1", "dialect": "gemini" }"#;
        let settings = serde_json::from_str(settings).unwrap();
        let call = Call {
            context: Context { span_id: 0xcd, ..parent },
            parent: 0xab,
            begun,
            elapsed: Duration::from_secs(2),
            provider: Arc::new(Provider::new("primary", &settings, None).unwrap()),
            operation: "chat",
            model: "m-1".into(),
            status: Some(200),
            outcome: Ok(Answered {
                model: Some("m-1-0613".into()),
                usage: Some(Usage { read: u64::MAX, written: 7 }),
            }),
        };
        let failed = Call { status: Some(429), outcome: Err("refused"), ..call.clone() };
        let late = Call { status: None, outcome: Err("timeout"), ..call.clone() };
        let spans = [
            Span::Request(Box::new(request)),
            Span::Call(Box::new(call)),
            Span::Call(Box::new(failed)),
            Span::Call(Box::new(late)),
        ];
        let written: Value = serde_json::from_slice(&write("desk", &spans)).unwrap();
        let resource = &written["resourceSpans"][0];
        assert_eq!(attribute(&resource["resource"], "service.name"), &json!({"stringValue": "desk"}));
        assert_eq!(resource["scopeSpans"][0]["scope"]["name"], "sizewise");
        let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap();
        let [request, call, failed, late] = spans.as_slice() else { unreachable!("four spans") };
        assert_eq!(request["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(
            (&request["spanId"], &request["parentSpanId"]),
            (&json!("00000000000000ab"), &json!("00f067aa0ba902b7"))
        );
        assert_eq!(
            (&request["kind"], &request["flags"], &request["name"]),
            (&json!(2), &json!(0x301), &json!("POST /v1/decisions"))
        );
        assert_eq!(request["startTimeUnixNano"], "1700000000123456789");
        assert_eq!(request["endTimeUnixNano"], "1700000000123457000");
        assert_eq!(request["status"], json!({"code": 2}));
        for (key, value) in [
            ("http.response.status_code", json!({"intValue": "503"})),
            ("error.type", json!({"stringValue": "overloaded"})),
            ("sizewise.request.id", json!({"stringValue": "a \"quoted\" one"})),
            ("sizewise.task", json!({"stringValue": "support"})),
            ("sizewise.certified", json!({"boolValue": true})),
            ("sizewise.tier", json!({"arrayValue": {"values": [{"stringValue": "static"}]}})),
            ("gen_ai.operation.name", json!({"stringValue": "decide"})),
        ] {
            assert_eq!(attribute(request, key), &value, "{key}");
        }
        assert_eq!(
            (&call["kind"], &call["parentSpanId"], &call["name"]),
            (&json!(3), &json!("00000000000000ab"), &json!("chat m-1"))
        );
        for (key, value) in [
            ("gen_ai.provider.name", json!({"stringValue": "gcp.gemini"})),
            ("gen_ai.response.model", json!({"stringValue": "m-1-0613"})),
            ("gen_ai.usage.input_tokens", json!({"intValue": i64::MAX.to_string()})),
            ("gen_ai.usage.output_tokens", json!({"intValue": "7"})),
            ("server.address", json!({"stringValue": "127.0.0.1"})),
            ("server.port", json!({"intValue": "9999"})),
        ] {
            assert_eq!(attribute(call, key), &value, "{key}");
        }
        assert_eq!(call["status"], json!({}));
        assert_eq!(attribute(failed, "error.type"), &json!({"stringValue": "429"}));
        assert_eq!(attribute(late, "error.type"), &json!({"stringValue": "timeout"}));
    }
}
