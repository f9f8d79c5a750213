//! Is the same recorded of the same call, whatever the protocol and whether it streams?

#![allow(clippy::unwrap_used, reason = "a test")]

use super::{answer, request, writer::place_id, *};
use serde_json::json;
use sizewise_learn::sites::{Called, Facts, Fixed, Said};
use sizewise_store::{ObservedBounds, Store};

fn heard(protocol: Protocol, body: Value) -> Option<Heard> {
    request::read(protocol, &body)
}

#[test]
fn the_three_protocols_ask_the_same() {
    let schema = json!({"type": "object", "properties": {"team": {"enum": ["a", "b"]}}});
    let chat = heard(
        Protocol::Chat,
        json!({"messages": [{"role": "system", "content": "Route it."},
                {"role": "user", "content": [{"type": "text", "text": "where is it"}]}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}),
    );
    let responses = heard(
        Protocol::Responses,
        json!({"instructions": "Route it.", "input": [{"role": "user", "content": [{"type": "input_text", "text": "where is it"}]}],
            "text": {"format": {"type": "json_schema", "name": "x", "schema": schema}}}),
    );
    assert_eq!(chat, responses);
    assert_eq!(chat.unwrap().fixed.schema, Some(schema));
    let plain = heard(Protocol::Responses, json!({"instructions": "Route it.", "input": "where is it"}));
    let letters = json!({"system": [{"type": "text", "text": "Route it."}], "messages": [{"role": "user", "content": "where is it"}]});
    assert_eq!(plain, heard(Protocol::Messages, letters));
    let tool = json!({"name": "sort", "description": "x"});
    let with = |tool: Value| json!({"messages": [{"role": "user", "content": "hi"}], "tools": [tool]});
    let chat = heard(Protocol::Chat, with(json!({"type": "function", "function": tool}))).unwrap();
    assert_eq!(chat.fixed.tools, heard(Protocol::Messages, with(tool)).unwrap().fixed.tools);
}

#[test]
fn examples_in_the_messages_are_part_of_the_text_and_what_is_no_text_is_not_recorded() {
    let messages = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "x"}, {"role": "user", "content": "b"}]);
    let several = heard(Protocol::Chat, json!({ "messages": messages })).unwrap();
    assert_eq!(several.text, "[user]\na\n[assistant]\nx\n[user]\nb");
    for body in [
        json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
        json!({"n": 2, "messages": messages}),
        json!({"messages": []}),
        json!({"messages": 7}),
    ] {
        assert_eq!(heard(Protocol::Chat, body), None);
    }
    assert_eq!(heard(Protocol::Responses, json!({"previous_response_id": "r", "input": "hi"})), None);
}

fn streamed(events: &[Value]) -> Vec<u8> {
    events.iter().flat_map(|event| format!("event: x\r\ndata: {event}\r\n\r\n").into_bytes()).collect()
}

#[test]
fn a_stream_comes_to_what_the_whole_answer_says() {
    let call = |arguments: &str| json!({"id": "c", "function": {"name": "sort", "arguments": arguments}});
    let whole = json!({"id": "r", "model": "m-1", "usage": {"prompt_tokens": 9, "completion_tokens": 2},
        "choices": [{"finish_reason": "tool_calls", "message": {"content": "so:", "tool_calls": [call("{\"team\":\"a\"}")]}}]});
    let whole = answer::read(Protocol::Chat, whole.to_string().as_bytes(), false).unwrap();
    let chunk = |delta: Value, reason: Value| json!({"id": "r", "model": "m-1", "choices": [{"delta": delta, "finish_reason": reason}]});
    let mut part = call("{\"team\"");
    part["index"] = json!(0);
    let mut stream = streamed(&[
        chunk(json!({"role": "assistant", "content": "so"}), Value::Null),
        chunk(json!({"content": ":", "tool_calls": [part]}), Value::Null),
        chunk(
            json!({"tool_calls": [{"index": 0, "function": {"arguments": ":\"a\"}"}}]}),
            json!("tool_calls"),
        ),
        json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}),
    ]);
    stream.extend_from_slice(b"data: [DONE]\n\n");
    assert_eq!(answer::read(Protocol::Chat, &stream, true), Some(whole.clone()));
    assert_eq!(whole.said.calls, [Called { name: "sort".into(), arguments: json!({"team": "a"}) }]);
    assert_eq!((whole.usage, whole.model.as_str()), (Some((9, 2)), "m-1"));

    let message = json!({"id": "m", "model": "m-2", "stop_reason": "tool_use", "usage": {"input_tokens": 5, "output_tokens": 3},
        "content": [{"type": "text", "text": "hm"}, {"type": "tool_use", "id": "t", "name": "sort", "input": {"team": "b"}}]});
    let whole = answer::read(Protocol::Messages, message.to_string().as_bytes(), false).unwrap();
    let events = [
        json!({"type": "message_start", "message": {"id": "m", "model": "m-2", "content": [], "stop_reason": null, "usage": {"input_tokens": 5, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hm"}}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t", "name": "sort", "input": {}}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{\"team\":"}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "\"b\"}"}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}}),
        json!({"type": "message_stop"}),
    ];
    assert_eq!(answer::read(Protocol::Messages, &streamed(&events), true), Some(whole));

    let response = json!({"id": "q", "model": "m-3", "status": "completed", "usage": {"input_tokens": 1, "output_tokens": 1},
        "output": [{"type": "reasoning"}, {"type": "message", "content": [{"type": "output_text", "text": "billing"}]}]});
    let whole = answer::read(Protocol::Responses, response.to_string().as_bytes(), false).unwrap();
    let events = [
        json!({"type": "response.output_text.delta", "delta": "bil"}),
        json!({"type": "response.completed", "response": response}),
    ];
    assert_eq!(answer::read(Protocol::Responses, &streamed(&events), true), Some(whole.clone()));
    assert_eq!(whole.said, Said { text: Some("billing".into()), calls: Vec::new() });
}

#[test]
fn what_was_cut_off_refused_or_broken_decides_nothing() {
    let chat = |reason: &str, message: Value| {
        let body = json!({"choices": [{"finish_reason": reason, "message": message}]}).to_string();
        answer::read(Protocol::Chat, body.as_bytes(), false)
    };
    assert!(chat("stop", json!({"content": "yes"})).is_some());
    for none in [
        chat("length", json!({"content": "ye"})),
        chat("content_filter", json!({"content": "yes"})),
        chat("stop", json!({"content": null, "refusal": "no"})),
        chat("stop", json!({"content": " "})),
        answer::read(
            Protocol::Chat,
            &streamed(&[
                json!({"choices": [{"delta": {"content": "yes"}}]}),
                json!({"error": {"message": "busy"}}),
            ]),
            true,
        ),
        answer::read(Protocol::Responses, br#"{"status":"incomplete","output":[]}"#, false),
        answer::read(
            Protocol::Responses,
            &streamed(&[json!({"type": "response.failed", "response": {}})]),
            true,
        ),
        answer::read(
            Protocol::Messages,
            br#"{"stop_reason":"max_tokens","content":[{"type":"text","text":"ye"}]}"#,
            false,
        ),
        answer::read(Protocol::Messages, b"no json", false),
    ] {
        assert_eq!(none, None);
    }
}

#[test]
fn a_place_is_the_same_whatever_the_day_and_another_for_another_program() {
    let facts = |system: &str, key: Option<&str>| Facts {
        protocol: "chat".into(),
        model: "primary".into(),
        key_id: key.map(str::to_owned),
        fixed: Fixed { system: system.into(), ..Fixed::default() },
        ..Facts::default()
    };
    let id = |system: &str, key| place_id(&facts(system, key));
    assert_eq!(id("Today is 9 May.\nRoute it.", None), id("Today is 10 May.  Route it.", None));
    assert_ne!(id("Route it.", None), id("Route it.", Some("k1")));
    assert_ne!(id("Route it.", None), id("Rate it.", None));
    let named = |system: &str| place_id(&Facts { name: Some("desk".into()), ..facts(system, None) });
    assert_eq!(named("Route it."), named("Rate it."));
}

fn told(observer: &Arc<Observer>, text: &str, answer: &str) {
    let request = json!({"messages": [{"role": "system", "content": "Write to a@b.example."}, {"role": "user", "content": text}]});
    let answer =
        json!({"model": "m-1", "choices": [{"finish_reason": "stop", "message": {"content": answer}}]});
    let asking = Asking { protocol: Protocol::Chat, model: "primary".into(), site: None, key_id: None };
    let mut watch = observer.watch(asking, request.to_string().as_bytes()).unwrap();
    let prices = Prices { read: MicroUsd(1_000_000), written: MicroUsd(1_000_000) };
    watch.answered_by(Answering { provider: "primary".into(), model: "m".into(), prices }, false);
    for piece in answer.to_string().as_bytes().chunks(7) {
        watch.piece(piece);
    }
    watch.ended();
}

fn bounds(redacted: bool) -> Bounds {
    Bounds { redacted, kept: ObservedBounds { rows: 100, bytes: 1 << 20 } }
}

#[test]
fn personal_data_is_masked_before_anything_is_written_unless_all_is_to_be_kept() {
    for (redacted, expected) in [(true, false), (false, true)] {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let observer = Arc::new(Observer::start(folder.path(), bounds(redacted)).unwrap());
        told(
            &observer,
            "I am jane@doe.example",
            r#"{"team":"billing","mail":"jane@doe.example","see":"https://a.example/x"}"#,
        );
        told(&observer, &"x".repeat(300 << 10), "too large to be recorded");
        let counts = Arc::clone(&observer.counts);
        // Whoever lets it go waits until all is written.
        drop(observer);
        assert_eq!(counts.kept.load(Ordering::Relaxed), 1);
        assert_eq!(
            (counts.dropped.load(Ordering::Relaxed), counts.waiting_bytes.load(Ordering::Relaxed)),
            (1, 0)
        );
        let place = store.places().unwrap().remove(0);
        let (_, call) = store.observed(&place.id).unwrap().remove(0);
        assert_eq!(
            (place.place.contains("a@b"), call.contains("jane"), call.contains("a.example")),
            (expected, expected, expected)
        );
        assert!(place.micro_usd > MicroUsd(0), "guessed where nobody counts");
        let call: sizewise_learn::sites::Call = serde_json::from_str(&call).unwrap();
        let said: Value = serde_json::from_str(&call.said.text.unwrap()).unwrap();
        assert_eq!(said["team"], "billing", "what is JSON stays JSON");
        assert!(call.is_estimate);
    }
}

#[test]
fn when_too_much_waits_calls_are_dropped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let observer = Arc::new(Observer::start(folder.path(), bounds(true)).unwrap());
    observer.counts.waiting_bytes.store(WAITING_BYTES, Ordering::Relaxed);
    told(&observer, "hi", "billing");
    assert_eq!(observer.counts(), (0, 1));
    drop(observer);
    assert_eq!(store.places().unwrap().len(), 0);
}

#[test]
fn a_second_has_room_for_so_many_calls_and_the_next_one_for_as_many_again() {
    let folder = tempfile::tempdir().unwrap();
    let observer = Observer::start(folder.path(), bounds(true)).unwrap();
    // However slow the machine: no second has room for more.
    let had_room = (0..10 * MOST_A_SECOND).filter(|_| observer.has_room()).count() as u64;
    let seconds = observer.started.elapsed().as_secs() + 1;
    assert!(had_room >= MOST_A_SECOND && had_room <= seconds * MOST_A_SECOND, "{had_room} in {seconds}");
    observer.second.0.store(u64::MAX, Ordering::Relaxed);
    assert!(observer.has_room());
}

#[test]
fn a_sites_name_is_a_word() {
    assert_eq!(named(" ticket-team "), Some("ticket-team".into()));
    assert_eq!((named(""), named("two words"), named(&"x".repeat(101))), (None, None, None));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_fail(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300), text in "[{}\\[\\]\":,a-z0-9 \n]{0,120}") {
        for protocol in [Protocol::Chat, Protocol::Responses, Protocol::Messages] {
            for streamed in [true, false] {
                let _ = answer::read(protocol, &bytes, streamed);
                let _ = answer::read(protocol, format!("data: {text}\n\n").as_bytes(), streamed);
            }
            if let Ok(value) = serde_json::from_str(&text) {
                let _ = request::read(protocol, &value);
            }
        }
    }
}
