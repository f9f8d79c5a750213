//! What becomes of a server that is asked for several times what it can do?
//!
//! First as many requests as it answers, from a few clients that wait for each answer; then so many times as many, sent whether or not
//! answers come back, over more connections than there are places. What counts is how many good answers are still given, and how soon
//! the others are told to come back later.
//!
//! ```text
//! cargo run --release --example http_overload -- --address 127.0.0.1:8080 --path /v1/tasks/support/decide --body FILE [--times 5]
//! ```

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const HELP: &str = "http_overload --address HOST:PORT --path PATH --body FILE [--times 5] [--connections 2000] [--seconds 10]";

struct Options {
    address: SocketAddr,
    path: String,
    body: String,
    times: f64,
    connections: usize,
    seconds: u64,
}

/// Status and microseconds of each answer.
type Answers = Arc<Mutex<Vec<(u16, f64)>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let options = read_options()?;
    let request = Arc::new(
        format!(
            "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
            options.path,
            options.body.len(),
            options.body
        )
        .into_bytes(),
    );
    // Until the first looks for new kinds are done, too.
    waited(&options, &request, 5).await?;
    let alone = waited(&options, &request, options.seconds).await?;
    let peak = alone.len() as f64 / options.seconds as f64;
    println!("answered while every client waits:   {peak:>9.0} /s");
    let rate = peak * options.times;
    let (answers, unsent) = pressed(&options, &request, rate).await?;
    let seconds = options.seconds as f64;
    let of = |wanted: fn(u16) -> bool| {
        let mut times: Vec<f64> =
            answers.iter().filter(|(status, _)| wanted(*status)).map(|(_, us)| *us / 1e3).collect();
        times.sort_by(f64::total_cmp);
        times
    };
    let (good, refused) = (of(|status| status == 200), of(|status| status == 503));
    let other = answers.len() - good.len() - refused.len();
    let at = |times: &[f64], share: f64| {
        times.get(((times.len() as f64 - 1.0) * share).max(0.0) as usize).copied().unwrap_or(f64::NAN)
    };
    println!(
        "asked for:                           {:>9.0} /s, {unsent} not sent for want of a free connection",
        rate
    );
    println!(
        "answered:                            {:>9.0} /s, {:.0} % of what it can; p99 {:.0} ms",
        good.len() as f64 / seconds,
        100.0 * good.len() as f64 / seconds / peak,
        at(&good, 0.99)
    );
    println!(
        "told to come back later:             {:>9.0} /s; p50 {:.2} ms, p99 {:.2} ms",
        refused.len() as f64 / seconds,
        at(&refused, 0.5),
        at(&refused, 0.99)
    );
    println!("neither:                             {other:>9}");
    Ok(())
}

/// What 64 clients get that each wait for their answer.
async fn waited(options: &Options, request: &Arc<Vec<u8>>, seconds: u64) -> Result<Vec<(u16, f64)>, Failure> {
    let answers = Answers::default();
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (request, answers, address) = (Arc::clone(request), Arc::clone(&answers), options.address);
        clients.spawn(async move {
            let mut stream = connect(address).await?;
            while Instant::now() < until {
                let answer = ask(&mut stream, &request).await?;
                answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
            }
            Ok::<(), Failure>(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    Ok(std::mem::take(&mut answers.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// What comes of requests that are sent at a rate, whatever becomes of those before.
async fn pressed(
    options: &Options,
    request: &Arc<Vec<u8>>,
    rate: f64,
) -> Result<(Vec<(u16, f64)>, u64), Failure> {
    let answers = Answers::default();
    let unsent = Arc::new(AtomicU64::new(0));
    let mut orders = Vec::new();
    for _ in 0..options.connections {
        let (order, mut ordered) = mpsc::channel::<()>(1);
        let mut stream = connect(options.address).await?;
        // From here on the server has taken it: what is measured is a burst of requests and not of connections.
        ask(&mut stream, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
        let (request, answers) = (Arc::clone(request), Arc::clone(&answers));
        tokio::spawn(async move {
            while ordered.recv().await.is_some() {
                let Ok(answer) = ask(&mut stream, &request).await else { return };
                answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
            }
        });
        orders.push(order);
    }
    let begun = Instant::now();
    let (mut sent, mut next) = (0_u64, 0);
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    while begun.elapsed() < Duration::from_secs(options.seconds) {
        tick.tick().await;
        let due = (begun.elapsed().as_secs_f64() * rate) as u64;
        while sent < due {
            sent += 1;
            // The next connection that is free; after one round there is none.
            let free = (0..orders.len()).find(|step| {
                let place = (next + step) % orders.len();
                orders.get(place).is_some_and(|order| order.try_send(()).is_ok())
            });
            match free {
                Some(step) => next = (next + step + 1) % orders.len(),
                None => {
                    unsent.fetch_add(due - sent + 1, Ordering::Relaxed);
                    sent = due;
                }
            }
        }
    }
    let answers = std::mem::take(&mut *answers.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((answers, unsent.load(Ordering::Relaxed)))
}

async fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn ask(stream: &mut TcpStream, request: &[u8]) -> Result<(u16, f64), Failure> {
    let sent = Instant::now();
    stream.write_all(request).await?;
    let mut got = Vec::with_capacity(2_048);
    loop {
        if stream.read_buf(&mut got).await? == 0 {
            return Err("the server closed the connection".into());
        }
        let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(got.get(..end).unwrap_or_default())?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.ok_or("a reply without a length")?.trim().parse()?;
        if got.len() >= end + 4 + length {
            let status = head.get(9..12).ok_or("a reply without a status")?.parse()?;
            return Ok((status, sent.elapsed().as_secs_f64() * 1e6));
        }
    }
}

fn read_options() -> Result<Options, Failure> {
    let mut options = Options {
        address: SocketAddr::from(([127, 0, 0, 1], 8080)),
        path: String::new(),
        body: String::new(),
        times: 5.0,
        connections: 2_000,
        seconds: 10,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(HELP)?;
        match word.as_str() {
            "--address" => options.address = value.parse()?,
            "--path" => options.path = value,
            "--body" => options.body = std::fs::read_to_string(value)?.trim().to_owned(),
            "--times" => options.times = value.parse()?,
            "--connections" => options.connections = value.parse()?,
            "--seconds" => options.seconds = value.parse()?,
            _ => return Err(HELP.into()),
        }
    }
    if options.path.is_empty() || options.body.is_empty() { Err(HELP.into()) } else { Ok(options) }
}
