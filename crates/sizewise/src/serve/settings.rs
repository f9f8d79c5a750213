//! On which address, with which limits, does the server run?

use super::Relay;
use crate::console::Console;
use crate::oidc::sign_in::SignIn;
use crate::telemetry::Telemetry;
use sizewise_contract::{Code, Diagnose, limits};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

/// The settings of a server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address to listen on; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Threads that answer requests.
    pub workers: NonZeroUsize,
    /// Largest body of a request, before and after decompression.
    pub body_bytes: usize,
    /// Most bytes of bodies held at once, over all requests.
    pub body_budget_bytes: usize,
    /// Most connections open at once; more wait until one closes.
    pub connections: usize,
    /// Most requests worked on at once; more are told to try again.
    pub concurrent_requests: usize,
    /// Until when the head of a request must have come; also how long an idle connection is kept.
    pub header_timeout: Duration,
    /// Until when the body of a request must have come.
    pub body_timeout: Duration,
    /// Until when a request must be answered.
    pub request_timeout: Duration,
    /// How long `/readyz` says no before new connections are refused, so that balancers look elsewhere.
    pub drain_delay: Duration,
    /// How long requests in flight may take to finish once the server stops.
    pub drain_deadline: Duration,
    /// Names, besides those of this machine, under which a server without keys may be called.
    pub allowed_hosts: Vec<String>,
    /// Whether each request leaves a line, without content, on standard error.
    pub access_log: bool,
    /// What programs may call by name.
    pub relay: Option<Arc<Relay>>,
    /// Who is told of traces.
    pub telemetry: Option<Arc<Telemetry>>,
    /// What people see and do in a browser.
    pub console: Option<Arc<Console>>,
    /// How they sign in there at their identity provider.
    pub sign_in: Option<Arc<SignIn>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            body_bytes: limits::BODY_BYTES,
            body_budget_bytes: 256 << 20,
            connections: 4_096,
            concurrent_requests: 1_024,
            // Longer than the 30 s for which the known clients keep idle connections: they close first, and no request
            // meets a connection that is just being closed.
            header_timeout: Duration::from_secs(35),
            body_timeout: Duration::from_secs(15),
            request_timeout: Duration::from_secs(30),
            drain_delay: Duration::ZERO,
            drain_deadline: Duration::from_secs(10),
            allowed_hosts: Vec::new(),
            access_log: false,
            relay: None,
            telemetry: None,
            console: None,
            sign_in: None,
        }
    }
}

impl Settings {
    /// Whether only programs on this machine can reach the address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.bind.ip().to_canonical().is_loopback()
    }

    /// Checks that the address may be served with or without keys.
    ///
    /// # Errors
    /// Fails when others can reach the address and no key exists.
    pub fn check(&self, any_key: bool) -> Result<(), ServeError> {
        if self.is_loopback() || any_key { Ok(()) } else { Err(ServeError::KeysNeeded { bind: self.bind }) }
    }
}

/// Why a server could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Others can reach the address, and there is no key that they would need.
    #[error("others can reach {bind}, and there is no API key yet")]
    KeysNeeded {
        /// The address.
        bind: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {bind}: {source}")]
    Address {
        /// The address.
        bind: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The threads of the server could not be started.
    #[error("cannot start the server's threads: {0}")]
    Threads(std::io::Error),
}

impl Diagnose for ServeError {
    fn code(&self) -> Code {
        match self {
            Self::KeysNeeded { .. } => Code::KeysNeeded,
            Self::Address { .. } => Code::AddressUnavailable,
            Self::Threads(_) => Code::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::KeysNeeded { bind } => {
                Some(format!("create a key first, or serve this machine only, on 127.0.0.1:{}", bind.port()))
            }
            Self::Address { bind, source } if source.kind() == std::io::ErrorKind::AddrInUse => {
                Some(format!("stop what listens there, or choose another port than {}", bind.port()))
            }
            Self::Address { .. } | Self::Threads(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_can_reach_needs_keys() {
        for (bind, needs) in [
            ("127.0.0.1:80", false),
            ("127.9.9.9:80", false),
            ("[::1]:80", false),
            ("[::ffff:127.0.0.1]:80", false),
            ("0.0.0.0:80", true),
            ("[::]:80", true),
            ("192.168.1.2:80", true),
        ] {
            let settings = Settings { bind: bind.parse().expect("an address"), ..Settings::default() };
            assert_eq!(settings.check(false).is_err(), needs, "{bind}");
            assert!(settings.check(true).is_ok(), "{bind}");
        }
    }

    #[test]
    fn the_refusal_names_the_way_out() {
        let error = Settings { bind: ([0, 0, 0, 0], 9000).into(), ..Settings::default() }
            .check(false)
            .expect_err("no key");
        assert_eq!(error.code(), Code::KeysNeeded);
        assert!(error.hint().is_some_and(|hint| hint.contains("127.0.0.1:9000")));
    }
}
