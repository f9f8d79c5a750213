//! Does any spelling of an address lead a provider's client where it must not go?
//!
//! `cargo test -p sizewise-models --test addresses -- --nocapture` prints how many were blocked. A trap listens on this machine: what is
//! blocked never gets as far as its door.

#![allow(clippy::unwrap_used, reason = "a test")]

use bytes::Bytes;
use sizewise_models::remote::{Client, Reach};
use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Addresses that hand out secrets or name nobody: never called, not even where private networks may be.
const NEVER: [[u8; 4]; 10] = [
    [169, 254, 169, 254],
    [169, 254, 170, 2],
    [169, 254, 0, 1],
    [0, 0, 0, 0],
    [0, 1, 2, 3],
    [100, 100, 100, 200],
    [168, 63, 129, 16],
    [192, 0, 0, 192],
    [224, 0, 0, 1],
    [255, 255, 255, 255],
];

/// Addresses of this machine and of private networks: not where a name may lead to the public network alone.
const PRIVATE: [[u8; 4]; 9] = [
    [127, 0, 0, 1],
    [127, 1, 2, 3],
    [10, 0, 0, 1],
    [172, 16, 0, 1],
    [172, 31, 255, 255],
    [192, 168, 1, 1],
    [100, 64, 0, 1],
    [198, 18, 0, 1],
    [192, 0, 2, 1],
];

/// Every way in which a system's resolver or a proxy might read an address out of a host.
fn spellings(octets: [u8; 4]) -> Vec<String> {
    let [a, b, c, d] = octets;
    let number = u32::from(Ipv4Addr::from(octets));
    let (high, low) = (number >> 16, number & 0xffff);
    vec![
        format!("{a}.{b}.{c}.{d}"),
        format!("{number}"),
        format!("{number:#x}"),
        format!("0{number:o}"),
        format!("{a}.{}", number & 0x00ff_ffff),
        format!("{a}.{b}.{low}"),
        format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("[::ffff:{a}.{b}.{c}.{d}]"),
        format!("[::ffff:{high:x}:{low:x}]"),
        format!("[::{high:x}:{low:x}]"),
        format!("[64:ff9b::{high:x}:{low:x}]"),
        format!("[2002:{high:x}:{low:x}::]"),
        format!("[2001:0:{high:x}:{low:x}::1]"),
    ]
}

/// What a client said of an address; none where it was about to send.
async fn refusal(address: &str, reach: Reach) -> Option<String> {
    let client = match Client::new(address, Some(reach)) {
        Ok(client) => client,
        Err(problem) => return Some(problem.to_owned()),
    };
    let sent = AtomicBool::new(false);
    let asked = client.send((hyper::Method::GET, "/"), &[], Bytes::new(), &sent);
    let answer = tokio::time::timeout(Duration::from_secs(5), asked).await;
    match answer {
        Ok(Err(broken)) if !broken.sent && !sent.load(Ordering::Relaxed) => Some(broken.problem),
        _ => None,
    }
}

#[test]
fn no_spelling_reaches_what_must_not_be_reached() {
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = trap.local_addr().unwrap().port();
    let caught = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&caught);
    std::thread::spawn(move || {
        for _ in trap.incoming() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });

    let hosts = |all: &[[u8; 4]]| all.iter().flat_map(|octets| spellings(*octets)).collect::<BTreeSet<_>>();
    let mut vectors: Vec<(String, Reach)> = Vec::new();
    vectors.extend(hosts(&NEVER).into_iter().map(|host| (host, Reach::Private)));
    vectors.extend(hosts(&NEVER).into_iter().map(|host| (host, Reach::Public)));
    vectors.extend(hosts(&PRIVATE).into_iter().map(|host| (host, Reach::Public)));
    let names = [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "127.1",
        "127.0.1",
        "0",
        "0x0",
    ];
    vectors.extend(names.map(|host| (host.to_owned(), Reach::Public)));
    let wide = ["[::]", "[fe80::1]", "[fec0::1]", "[ff02::1]", "[fd00:ec2::254]"];
    vectors.extend(wide.map(|host| (host.to_owned(), Reach::Private)));
    vectors.extend(["[fc00::1]", "[fd12::1]", "[2001:db8::1]"].map(|host| (host.to_owned(), Reach::Public)));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut blocked = 0;
    let mut passed = Vec::new();
    for (host, reach) in &vectors {
        let told = runtime.block_on(refusal(&format!("http://{host}:{port}/v1"), *reach));
        // A spelling that this system's resolver does not take for an address leads nowhere, which is as good.
        match told {
            Some(told) if told.contains("may not be called") || told.contains("no such host") => blocked += 1,
            told => passed.push(format!("{host} ({reach:?}): {told:?}")),
        }
    }
    // What would say one host to us and another to somebody behind us.
    let crooked = [
        format!("http://models.example@127.0.0.1:{port}/"),
        format!("http://models.example#@127.0.0.1:{port}/"),
        format!("http://models.example?@127.0.0.1:{port}/"),
        format!("http://127.0.0.1 :{port}/"),
        format!("http://models.example\r\nhost: 127.0.0.1:{port}/"),
        format!("http://[::1:{port}/"),
        format!("gopher://127.0.0.1:{port}/"),
        "file:///etc/passwd".to_owned(),
        format!("//127.0.0.1:{port}/"),
        format!("http:/127.0.0.1:{port}/"),
        "http://".to_owned(),
        "http://127.0.0.1:99999/".to_owned(),
    ];
    for address in &crooked {
        match runtime.block_on(refusal(address, Reach::Public)) {
            Some(_) => blocked += 1,
            None => passed.push(address.clone()),
        }
    }
    let all = vectors.len() + crooked.len();
    println!("{blocked} of {all} addresses blocked, {} connections made", caught.load(Ordering::Relaxed));
    assert!(passed.is_empty(), "{passed:#?}");
    assert_eq!(caught.load(Ordering::Relaxed), 0);
    assert!(all >= 150, "{all}");
    // The trap can be reached, so that nobody was caught means something.
    runtime.block_on(refusal(&format!("http://127.0.0.1:{port}/"), Reach::Private));
    let begun = Instant::now();
    while caught.load(Ordering::Relaxed) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "the trap hears nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
}
