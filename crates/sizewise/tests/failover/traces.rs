//! Does whoever collects traces learn where a call went, how it failed, and where it belongs?

use super::{provider::Provider, server::Server};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Takes traces from the second call on; the first one finds it busy.
fn collector() -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let spans = Arc::<Mutex<Vec<Value>>>::default();
    let kept = Arc::clone(&spans);
    std::thread::spawn(move || {
        let mut busy = true;
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(&stream);
            loop {
                let (mut head, mut line) = (String::new(), String::new());
                while reader.read_line(&mut line).unwrap_or(0) > 2 {
                    head += &line;
                    line.clear();
                }
                let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")) else {
                    break;
                };
                let mut body = vec![0; length.parse().unwrap()];
                reader.read_exact(&mut body).unwrap();
                assert!(head.starts_with("POST /v1/traces "), "{head}");
                let status = if std::mem::take(&mut busy) { "503 Busy" } else { "200 OK" };
                if status == "200 OK" {
                    let told: Value = serde_json::from_slice(&body).unwrap();
                    let all =
                        told.pointer("/resourceSpans/0/scopeSpans/0/spans").unwrap().as_array().unwrap();
                    kept.lock().unwrap().extend(all.iter().cloned());
                }
                (&stream)
                    .write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}").as_bytes())
                    .unwrap();
            }
        }
    });
    (address, spans)
}

fn attribute(span: &Value, key: &str) -> Value {
    let all = span["attributes"].as_array().unwrap();
    all.iter().find(|one| one["key"] == key).map_or(Value::Null, |one| one["value"].clone())
}

#[test]
fn a_traced_request_shows_every_call_that_was_made_for_it() {
    let provider = Provider::start();
    let (collector, spans) = collector();
    let server = Server::start(&format!(
        "[telemetry]\notlp = \"http://{collector}\"\n{}[relay]\nproviders = [\"503-lasting\"]\nbudget = {{ usd_total = 1 }}\n",
        provider.settings("503-lasting", true)
    ));
    let heard = server.post_with(
        "/v1/chat/completions",
        &format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\nx-request-id: mine-1\r\n"),
        r#"{"model":"503-lasting","messages":[{"role":"user","content":"hi"}],"max_tokens":100}"#,
    );
    assert_eq!((heard.status, heard.header("x-request-id")), (200, Some("mine-1")), "{heard:?}");
    let (first, _) = provider.calls("503-lasting");
    let begun = Instant::now();
    while spans.lock().unwrap().len() < first + 2 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", spans.lock().unwrap());
        std::thread::sleep(Duration::from_millis(10));
    }
    let spans = spans.lock().unwrap().clone();
    assert!(spans.iter().all(|span| span["traceId"] == TRACE));
    let request = spans.iter().find(|span| span["kind"] == 2).unwrap();
    assert_eq!(
        (&request["name"], &request["parentSpanId"]),
        (&json!("POST /v1/chat/completions"), &json!("00f067aa0ba902b7"))
    );
    assert_eq!(attribute(request, "sizewise.request.id"), json!({"stringValue": "mine-1"}));
    let calls: Vec<&Value> = spans.iter().filter(|span| span["kind"] == 3).collect();
    assert!(calls.iter().all(|call| call["parentSpanId"] == request["spanId"]));
    let (failed, good): (Vec<&Value>, Vec<&Value>) =
        calls.into_iter().partition(|call| call["status"]["code"] == 2);
    assert_eq!((failed.len(), good.len()), (first, 1));
    assert!(failed.iter().all(|call| attribute(call, "error.type") == json!({"stringValue": "503"})));
    for (key, value) in [
        ("gen_ai.operation.name", json!({"stringValue": "chat"})),
        ("gen_ai.request.model", json!({"stringValue": "m"})),
        ("gen_ai.response.model", json!({"stringValue": "m"})),
        ("gen_ai.usage.input_tokens", json!({"intValue": "100"})),
        ("gen_ai.usage.output_tokens", json!({"intValue": "10"})),
        ("sizewise.provider", json!({"stringValue": "503-lasting-second"})),
    ] {
        assert_eq!(attribute(good[0], key), value, "{key}");
    }
    let handed_on = provider.last_header("503-lasting", "traceparent").unwrap();
    assert_eq!(handed_on, format!("00-{TRACE}-{}-01", good[0]["spanId"].as_str().unwrap()));
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("sizewise_spans_dropped_total 0"), "{metrics}");
}
