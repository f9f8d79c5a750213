//! tmp
use std::time::Instant;
use sizewise_models::{neighbours::Neighbours, package::TaskModels, tensors::*, wordpiece::WordPiece};
use sizewise_contract::Task;
use sizewise_fuzz as f;
fn corpus(t: &str) -> Vec<(String, Vec<u8>)> {
    std::fs::read_dir(format!("{}/corpus/{t}", env!("CARGO_MANIFEST_DIR"))).unwrap().map(|e| { let p = e.unwrap().path(); (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(p).unwrap()) }).collect()
}
fn timed(name: &str, run: impl FnOnce() -> String) {
    let t = Instant::now();
    let r = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    println!("{name}: {:?} in {:?}", r.map_err(|_| "PANIC"), t.elapsed());
}
#[test]
fn seeds() {
    for (n, b) in corpus("task_file") { println!("{n}: {:?}", Task::parse(std::str::from_utf8(&b).unwrap()).map(|t| t.name).map_err(|e| e.to_string())); }
    for (n, b) in corpus("table") {
        let ext = ["csv","jsonl","parquet"][usize::from(b[0] % 3)];
        let p = std::env::temp_dir().join(format!("x.{ext}")); std::fs::write(&p, &b[1..]).unwrap();
        let mut rows = vec![]; let mut row = vec![];
        match sizewise_learn::table::TableReader::open(&p) { Err(e) => println!("{n}: {e}"), Ok(mut t) => { loop { match t.next_row(&mut row) { Ok(Some(_)) => rows.push(row.clone()), Ok(None) => break, Err(e) => { println!("{n} {e}"); break } } } println!("{n}: {:?} {rows:?}", t.columns()); } }
    }
    for (n, b) in corpus("tokenizer") { let mut h = b.splitn(2, |b| *b == 0); let j = h.next().unwrap(); println!("{n}: {:?}", WordPiece::from_tokenizer_json("t", j).map(|t| { let mut v = vec![]; t.encode_into(&String::from_utf8_lossy(h.next().unwrap()), &mut v); v }).map_err(|e| e.to_string())); }
    for (n, b) in corpus("decisions") { println!("{n}: {:?}", sizewise::wire::decisions::Request::read(&b).map(|r| f::fixture::tasks().iter().map(|t| (r.input(t).map_err(|e| e.to_string()), r.plan(t).map_err(|e| e.to_string()))).collect::<Vec<_>>())); }
    for (n, b) in corpus("system_one") { println!("{n}: {:?}", sizewise::wire::systemone::Request::read(&b).map(|r| f::fixture::tasks().iter().map(|t| (r.input(t).map_err(|e| e.to_string()), r.plan(t).map_err(|e| e.to_string()))).collect::<Vec<_>>())); }
    for (n, b) in corpus("chat") { println!("{n}: {:?}", sizewise::wire::chat::Request::read(&b).map(|r| f::fixture::tasks().iter().map(|t| r.plan(t).map_err(|e| e.to_string())).collect::<Vec<_>>())); }
    for (i, (n, b)) in corpus("safetensors").into_iter().enumerate() { println!("{i} {n}: {:?}", Tensors::parse("f", &b[1..]).map(|t| t.names()).map_err(|e| e.to_string())); }
}
#[test]
fn probes() {
    let parts = f::fixture::parts();
    let with = |which: &str, bytes: Vec<u8>| TaskModels::from_parts(|name| Ok::<_, sizewise_models::Error>(if name == which { bytes.clone() } else { parts.iter().find(|p| p.name == name).unwrap().bytes.clone() })).map(|m| { format!("{} questions", m.questions.len()) }).map_err(|e| e.to_string());
    let index = String::from_utf8(parts.iter().find(|p| p.name == "models.json").unwrap().bytes.clone()).unwrap();
    timed("classes usize::MAX", || format!("{:?}", with("models.json", index.replace("\"classes\": 2", "\"classes\": 18446744073709551615").into())));
    let n = 140_000;
    let big = write("sizewise-neighbours/1", &[Output::bytes("vectors", &[1, n], &vec![-128; n]), Output::integers("rows", &[1], &[0])]).unwrap();
    timed("neighbours wide", || format!("{:?}", Neighbours::from_bytes("n", &big).map(|n| n.len()).map_err(|e| e.to_string())));
    let minus = write("sizewise-neighbours/1", &[Output::bytes("vectors", &[0, 1 << 60], &[]), Output::integers("rows", &[0], &[])]).map(|b| Neighbours::from_bytes("n", &b).map(|n| n.nearest(&[0.5], 3, None)).map_err(|e| e.to_string()));
    println!("no rows: {:?}", minus.map_err(|e| e.to_string()));
    for deep in [1_000usize, 100_000] {
        timed(&format!("dotted key {deep}"), || format!("{:?}", Task::parse(&format!("{}a = 1", "a.".repeat(deep))).map(|_| ()).map_err(|e| e.to_string().chars().rev().take(80).collect::<String>().chars().rev().collect::<String>())));
        timed(&format!("dotted header {deep}"), || format!("{:?}", Task::parse(&format!("[{}a]", "input.".repeat(deep))).map(|_| ()).map_err(|e| e.to_string().chars().rev().take(80).collect::<String>().chars().rev().collect::<String>())));
        timed(&format!("arrays {deep}"), || format!("{:?}", Task::parse(&format!("a = {}", "[".repeat(deep))).map(|_| ()).map_err(|e| e.to_string().chars().rev().take(80).collect::<String>().chars().rev().collect::<String>())));
    }
    timed("many table headers", || format!("{:?}", Task::parse(&(0..70_000).map(|i| format!("[a.b{i}]\n")).collect::<String>()).map(|_| ()).map_err(|e| e.to_string().len())));
    timed("many questions", || format!("{:?}", Task::parse(&(0..60_000).map(|_| "[[question]]\n").collect::<String>()).map(|_| ()).map_err(|e| e.to_string().len())));
    timed("error on last of long line", || format!("{:?}", Task::parse(&format!("a = \"{}\" x", "y".repeat(1_000_000))).map(|_| ()).map_err(|e| e.to_string().len())));
    for len in [512usize, 1024, 2048, 4096] {
        let long = "a".repeat(len);
        let json = format!(r#"{{"normalizer":{{"type":"BertNormalizer"}},"pre_tokenizer":{{"type":"BertPreTokenizer"}},"model":{{"max_input_chars_per_word":1000000000,"vocab":{{"[UNK]":0,"[CLS]":1,"[SEP]":2,"a":3,"##a":4,"##{long}b":5,"{long}b":6}}}}}}"#);
        let t = WordPiece::from_tokenizer_json("t", json.as_bytes()).unwrap();
        timed(&format!("tokenizer word of {len}"), || { let mut v = vec![]; t.encode_into(&long, &mut v); format!("{}", v.len()) });
    }
    // chat schema
    let task = &f::fixture::tasks()[0];
    for (fan, levels, len) in [(6usize, 7usize, 5_000usize), (10, 6, 3_500), (5, 7, 6_500)] {
        let name = |l: usize| format!("{l}{}", "k".repeat(len));
        let mut defs = vec![];
        for l in 0..levels { let r = format!(r##"{{"$ref":"#/$defs/{}"}}"##, name(l + 1)); defs.push(format!(r#""{}":{{"anyOf":[{}]}}"#, name(l), vec![r; fan].join(","))); }
        defs.push(format!(r#""{}":true"#, name(levels)));
        let schema = format!(r##"{{"type":"object","properties":{{"team":{{"$ref":"#/$defs/{}"}}}},"$defs":{{{}}}}}"##, name(0), defs.join(","));
        let body = format!(r#"{{"model":"support","messages":[{{"role":"user","content":"x"}}],"response_format":{{"type":"json_schema","json_schema":{{"schema":{schema}}}}}}}"#);
        timed(&format!("schema fan {fan} levels {levels}, {} bytes", schema.len()), || { let r = sizewise::wire::chat::Request::read(body.as_bytes()).unwrap(); format!("{:?}", r.plan(task).map(|_| ()).map_err(|e| e.to_string())) });
    }
    let nan = index.replace("\"mean\": 0.5", "\"mean\": -1e300").replace("\"bias\": 0.5", "\"bias\": -1.7e308").replace("\"weight\": 1.5", "\"weight\": 1.7e308");
    println!("{nan}");
    timed("confidence", || { let mut b = vec![b'5']; b.extend_from_slice(nan.as_bytes()); f::safetensors(&b); String::new() });
    let two = index.replace("\"weight\": 1.5\n        }\n      ]", "\"weight\": 1.7e308 }, {\"name\":\"b\",\"mean\":1e30,\"deviation\":0.1,\"weight\":1.7e308}]").replace("\"mean\": 0.5", "\"mean\": -1e30");
    let two = two.split_whitespace().collect::<String>().replace("\"weight\":1.5}]", "\"weight\":1.7e308},{\"name\":\"b\",\"mean\":1e30,\"deviation\":0.1,\"weight\":1.7e308}]");
    timed("confidence nan", || { let mut b = vec![b'5']; b.extend_from_slice(two.as_bytes()); f::safetensors(&b); String::new() });
    // jsonl amplification
    let keys: Vec<String> = (0..2000).map(|i| format!("\"{i}\":1")).collect();
    let lines = format!("1{{{}}}\n{}", keys.join(","), "{}\n".repeat(15_000));
    timed(&format!("jsonl {}", lines.len()), || { f::table(lines.as_bytes()); String::new() });
}
