//! How many requests does one core of the server answer, and how much later does the slowest of a hundred come?
//!
//! Keep-alive clients, one thread each, send the same request over and over. The processor time of the server is read from
//! `/proc/PID/stat`, so the clients' own share of the machine does not count against it. Give the server a core of its own:
//!
//! ```text
//! taskset -c 0 sizewise serve --bind 127.0.0.1:8080 &
//! taskset -c 1 cargo run --release --example http_load -- --address 127.0.0.1:8080 --pid $!
//! ```
//!
//! `added p99` compares one client's requests with the same client's `GET /healthz`, which passes socket, HTTP and route
//! but neither JSON nor engine.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const HELP: &str = "http_load --address HOST:PORT --pid PID [--path /v1/decisions] [--body FILE] [--key KEY] \
                    [--floor /healthz] [--connections 8] [--seconds 5] [--json]";

/// A request to `/v1/decisions` as a client of the bundled example sends it.
const BODY: &str = r#"{"model":"support","input":"My card was charged twice for the same order and I need it back before Friday.","questions":[{"type":"choice","name":"team","instructions":"Which team should handle this message?","choices":[{"value":"order_status"},{"value":"delivery_problem"},{"value":"returns"},{"value":"refund_status"},{"value":"billing"},{"value":"account_access"},{"value":"product_question"},{"value":"warranty_repair"},{"value":"change_cancel"},{"value":"membership"},{"value":"privacy_data"},{"value":"business_sales"}]},{"type":"predicate","name":"urgent","instructions":"Would waiting one working day do harm?"}]}"#;

struct Options {
    address: SocketAddr,
    pid: u32,
    path: String,
    body: String,
    key: Option<String>,
    floor: String,
    connections: usize,
    seconds: u64,
    json: bool,
}

/// What one run of clients saw.
struct Run {
    /// Sorted. Microseconds.
    latencies_us: Vec<f64>,
    elapsed_s: f64,
}

fn main() -> Result<(), Failure> {
    let options = read_options()?;
    let healthz = request("GET", &options.floor, "", &options);
    let decide = request("POST", &options.path, &options.body, &options);
    let time = Duration::from_secs(options.seconds);
    run(&options, &decide, 1, Duration::from_millis(500))?;
    let floor = run(&options, &healthz, 1, time)?;
    let alone = run(&options, &decide, 1, time)?;
    let before_s = processor_seconds(options.pid)?;
    let together = run(&options, &decide, options.connections, time)?;
    let used_s = processor_seconds(options.pid)? - before_s;
    report(&options, &floor, &alone, &together, used_s);
    Ok(())
}

fn report(options: &Options, floor: &Run, alone: &Run, together: &Run, used_s: f64) {
    let requests = together.latencies_us.len();
    let per_core_second = requests as f64 / used_s;
    let added_p99_ms = (alone.at(0.99) - floor.at(0.99)) / 1e3;
    if options.json {
        println!(
            "{{\"path\":\"{}\",\"connections\":{},\"requests\":{requests},\"seconds\":{:.3},\"requests_per_second\":{:.0},\
             \"server_cpu_seconds\":{used_s:.3},\"requests_per_core_second\":{per_core_second:.0},\
             \"p50_us\":{:.1},\"p99_us\":{:.1},\"floor_p50_us\":{:.1},\"floor_p99_us\":{:.1},\"added_p99_ms\":{added_p99_ms:.4}}}",
            options.path,
            options.connections,
            together.elapsed_s,
            requests as f64 / together.elapsed_s,
            alone.at(0.5),
            alone.at(0.99),
            floor.at(0.5),
            floor.at(0.99),
        );
        return;
    }
    let row = |name: &str, run: &Run| {
        println!(
            "{name:<34} {:>9} requests {:>9.0} /s   p50 {:>8.1} µs   p99 {:>8.1} µs",
            run.latencies_us.len(),
            run.latencies_us.len() as f64 / run.elapsed_s,
            run.at(0.5),
            run.at(0.99)
        );
    };
    row(&format!("GET {}, 1 client", options.floor), floor);
    row(&format!("POST {}, 1 client", options.path), alone);
    row(&format!("POST {}, {} clients", options.path, options.connections), together);
    println!(
        "requests per core-second           {per_core_second:>9.0}   ({used_s:.2} s of the server's processor time)"
    );
    println!("added p99 at one client            {added_p99_ms:>9.3} ms");
}

impl Run {
    fn at(&self, quantile: f64) -> f64 {
        let place = ((self.latencies_us.len() as f64 - 1.0) * quantile).round() as usize;
        self.latencies_us.get(place).copied().unwrap_or(f64::NAN)
    }
}

fn run(options: &Options, request: &[u8], clients: usize, time: Duration) -> Result<Run, Failure> {
    let begun = Instant::now();
    let until = begun + time;
    let address = options.address;
    let results: Vec<Result<Vec<f64>, Failure>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..clients).map(|_| scope.spawn(move || client(address, request, until))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a client thread ended early".into())))
            .collect()
    });
    let elapsed_s = begun.elapsed().as_secs_f64();
    let mut latencies_us = Vec::new();
    for result in results {
        latencies_us.extend(result?);
    }
    latencies_us.sort_by(f64::total_cmp);
    Ok(Run { latencies_us, elapsed_s })
}

fn client(address: SocketAddr, request: &[u8], until: Instant) -> Result<Vec<f64>, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0u8; 64 << 10];
    let mut latencies_us = Vec::with_capacity(1 << 18);
    loop {
        let sent = Instant::now();
        if sent >= until {
            return Ok(latencies_us);
        }
        stream.write_all(request)?;
        read_reply(&mut stream, &mut buffer)?;
        latencies_us.push(sent.elapsed().as_secs_f64() * 1e6);
    }
}

/// Reads one whole reply, which has to be a 200.
fn read_reply(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<(), Failure> {
    let mut filled = 0;
    loop {
        let read = stream.read(buffer.get_mut(filled..).unwrap_or_default())?;
        if read == 0 {
            return Err("the server closed the connection, or a reply is larger than 64 KiB".into());
        }
        filled += read;
        let got = buffer.get(..filled).unwrap_or_default();
        let Some(head_end) = got.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(got.get(..head_end).unwrap_or_default())?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(format!("not a 200: {}", String::from_utf8_lossy(got)).into());
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let whole = match length {
            Some(length) => filled >= head_end + 4 + length.trim().parse::<usize>()?,
            // What has no length comes in chunks, the last of which is empty.
            None => got.ends_with(b"\r\n0\r\n\r\n"),
        };
        if whole {
            return Ok(());
        }
    }
}

fn request(method: &str, path: &str, body: &str, options: &Options) -> Vec<u8> {
    let key = options.key.as_ref().map_or(String::new(), |key| format!("authorization: Bearer {key}\r\n"));
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\naccept: application/json\r\nuser-agent: http_load\r\n{key}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// User and system time of a process, all threads: fields 14 and 15 of `/proc/PID/stat` (proc(5)), in ticks of 10 ms.
fn processor_seconds(pid: u32) -> Result<f64, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in brackets may hold spaces, so the fields are counted from its end.
    let (_, rest) = text.rsplit_once(')').ok_or("an unknown form of /proc/PID/stat")?;
    let ticks: Vec<&str> = rest.split_whitespace().skip(11).take(2).collect();
    let sum: u64 = ticks.iter().map(|ticks| ticks.parse::<u64>()).sum::<Result<u64, _>>()?;
    Ok(sum as f64 / 100.0)
}

fn read_options() -> Result<Options, Failure> {
    let mut options = Options {
        address: SocketAddr::from(([127, 0, 0, 1], 8080)),
        pid: 0,
        path: "/v1/decisions".into(),
        body: BODY.into(),
        key: None,
        floor: "/healthz".into(),
        connections: 8,
        seconds: 5,
        json: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--json" {
            options.json = true;
            continue;
        }
        let value = words.next().ok_or(HELP)?;
        match word.as_str() {
            "--address" => options.address = value.parse()?,
            "--pid" => options.pid = value.parse()?,
            "--path" => options.path = value,
            "--body" => options.body = std::fs::read_to_string(value)?,
            "--key" => options.key = Some(value),
            "--floor" => options.floor = value,
            "--connections" => options.connections = value.parse()?,
            "--seconds" => options.seconds = value.parse()?,
            _ => return Err(HELP.into()),
        }
    }
    if options.pid == 0 { Err(HELP.into()) } else { Ok(options) }
}
