//! How does one request reach a provider, and what comes back?
//!
//! HTTP/1.1 over connections that are kept and used again. Whoever drops a request or its reply closes the connection at once, so
//! the provider learns that nobody waits any more. A request that was surely not sent goes out again on a fresh connection; any
//! other failure is the caller's to judge.

use super::reach::Reach;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode,
    client::conn::http1::{self, SendRequest},
    header::{HOST, HeaderMap, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

/// Until when a connection must stand.
const CONNECT: Duration = Duration::from_secs(10);
/// The same for one address while there are others.
const CONNECT_ONE: Duration = Duration::from_secs(3);
/// For how long an unused connection is kept; shorter than servers keep theirs.
const IDLE: Duration = Duration::from_secs(15);
/// Unused connections that are kept.
const MOST_IDLE: usize = 64;

/// The body of a request.
pub type Body = Full<Bytes>;

/// A server that is called over and over.
pub struct Client {
    https: bool,
    host: String,
    port: u16,
    /// Begins every path.
    base: String,
    reach: Reach,
    tls: OnceLock<TlsConnector>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

/// Why a request got no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// What happened.
    pub problem: String,
    /// Whether the server may have got the request.
    pub sent: bool,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Body>,
    /// Dropped with the rest.
    _task: Task,
    unused_since: Instant,
}

/// Drives a connection; dropped, it closes it.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A reply whose body is still on the way.
#[derive(Debug)]
pub struct Incoming {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    body: hyper::body::Incoming,
    connection: Option<Connection>,
    home: Arc<Mutex<Vec<Connection>>>,
}

impl Client {
    /// A server by its address, `https://HOST[:PORT][/PATH]` or `http://…`; `reach` is how far its name may lead.
    ///
    /// # Errors
    /// Says what is wrong with the address.
    pub fn new(address: &str, reach: Option<Reach>) -> Result<Self, &'static str> {
        let (https, rest) = match (address.strip_prefix("https://"), address.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err("it begins with neither https:// nor http://"),
        };
        if address.contains(['@', '?', '#']) || address.chars().any(|c| c.is_control() || c == ' ') {
            return Err("an address holds no password and no query");
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or("a bracket is not closed")?;
                (host, rest.strip_prefix(':'))
            }
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err("it names no host");
        }
        let port = match port {
            Some(port) => port.parse().map_err(|_| "its port is no number")?,
            None if https => 443,
            None => 80,
        };
        Ok(Self {
            https,
            host: host.to_ascii_lowercase(),
            port,
            base: path.trim_end_matches('/').to_owned(),
            reach: reach.unwrap_or_else(|| Reach::of(host)),
            tls: OnceLock::new(),
            idle: Arc::default(),
        })
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether what is sent cannot be read on the way.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Sends a request and returns once the head of the reply is there; raises `sent` before the first byte goes out.
    ///
    /// # Errors
    /// Whatever stands in the way. There is no deadline here: drop the call.
    pub async fn send(
        &self,
        (method, path): (hyper::Method, &str),
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
        sent: &AtomicBool,
    ) -> Result<Incoming, Broken> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        let unsent = |problem: String| Broken { problem, sent: false };
        *request.uri_mut() =
            format!("{}{path}", self.base).parse().map_err(|_| unsent("the path is none".into()))?;
        let host = match (self.port, self.https) {
            (443, true) | (80, false) => self.name().into_owned(),
            (port, _) => format!("{}:{port}", self.name()),
        };
        let host = HeaderValue::from_str(&host).map_err(|_| unsent("the host is no name".into()))?;
        request.headers_mut().insert(HOST, host);
        for (name, value) in headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        loop {
            let kept = self.kept();
            let used_before = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            if connection.sender.ready().await.is_err() {
                match used_before {
                    true => continue,
                    false => return Err(unsent("it closed the connection".into())),
                }
            }
            sent.store(true, Ordering::Relaxed);
            match connection.sender.try_send_request(request).await {
                Ok(reply) => return Ok(self.incoming(reply, connection)),
                Err(mut failed) => match failed.take_message() {
                    // The server closed it while it was unused.
                    Some(unsent) if used_before => {
                        sent.store(false, Ordering::Relaxed);
                        request = unsent;
                    }
                    message => {
                        let problem = failed.into_error().to_string();
                        return Err(Broken { problem, sent: message.is_none() });
                    }
                },
            }
        }
    }

    fn incoming(&self, reply: Response<hyper::body::Incoming>, connection: Connection) -> Incoming {
        let (head, body) = reply.into_parts();
        Incoming {
            status: head.status,
            headers: head.headers,
            body,
            connection: Some(connection),
            home: Arc::clone(&self.idle),
        }
    }

    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|one| !one.sender.is_closed() && one.unused_since.elapsed() < IDLE);
        idle.pop()
    }

    /// The host as it stands in a URL.
    fn name(&self) -> std::borrow::Cow<'_, str> {
        match self.host.contains(':') {
            true => format!("[{}]", self.host).into(),
            false => self.host.as_str().into(),
        }
    }

    async fn connect(&self) -> Result<Connection, Broken> {
        let late = |_| Broken { problem: "no connection came about in time".into(), sent: false };
        // Apart, as it is rare, and what it needs would be part of every request that might come to it.
        tokio::time::timeout(CONNECT, Box::pin(self.connect_now())).await.map_err(late)?
    }

    async fn connect_now(&self) -> Result<Connection, Broken> {
        let unsent = |problem: String| Broken { problem, sent: false };
        let stream = dial((&self.host, self.port), self.reach).await.map_err(unsent)?;
        match self.https {
            true => handshake(self.secured(stream).await?).await,
            false => handshake(stream).await,
        }
    }

    async fn secured(&self, stream: TcpStream) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Broken> {
        let unsent = |problem: String| Broken { problem, sent: false };
        let connector = match self.tls.get() {
            Some(connector) => connector.clone(),
            None => {
                let connector = connector().map_err(|error| unsent(error.to_string()))?;
                self.tls.get_or_init(|| connector).clone()
            }
        };
        secure(&connector, &self.host, stream).await.map_err(unsent)
    }
}

/// Connects to the first address of a host that may be called and takes it.
pub(super) async fn dial((host, port): (&str, u16), reach: Reach) -> Result<TcpStream, String> {
    let found = tokio::net::lookup_host((host, port)).await.map_err(|_| "no such host".to_owned())?;
    let mut problem = "no such host".to_owned();
    let mut found = found.peekable();
    while let Some(address) = found.next() {
        if !reach.allows(address.ip()) {
            problem = "its name leads to an address that may not be called (private = true allows private networks)".into();
            continue;
        }
        // An address that swallows what it is sent must not use up the time of the others.
        let patience = if found.peek().is_some() { CONNECT_ONE } else { CONNECT };
        let connected = tokio::time::timeout(patience, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                problem = "nobody listens there".into();
            }
            Err(error) => problem = error.to_string(),
        }
    }
    Err(problem)
}

/// Goes on under TLS, where the host has a certificate of its name.
pub(super) async fn secure(
    connector: &TlsConnector,
    host: &str,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| "no such host".to_owned())?;
    let secured = connector.connect(name, stream).await;
    secured.map_err(|error| format!("it has no certificate that can be trusted: {error}"))
}

pub(super) fn connector() -> Result<TlsConnector, tokio_rustls::rustls::Error> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn handshake<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
) -> Result<Connection, Broken> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Broken { problem: error.to_string(), sent: false })?;
    // What ends a connection is told to whoever waits for a reply.
    let task = Task(tokio::spawn(async move { drop(connection.await) }));
    Ok(Connection { sender, _task: task, unused_since: Instant::now() })
}

impl Incoming {
    /// The next piece of the body; none at its end.
    ///
    /// # Errors
    /// Fails when it breaks off.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            match self.body.frame().await {
                None => {
                    self.give_back();
                    return Ok(None);
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    Err(_trailers) => {}
                },
                Some(Err(error)) => {
                    self.connection = None;
                    return Err(Broken { problem: format!("the reply broke off: {error}"), sent: true });
                }
            }
        }
    }

    /// The whole body, of at most `limit` bytes.
    ///
    /// # Errors
    /// Fails when it breaks off or is longer.
    pub async fn whole(mut self, limit: usize) -> Result<Vec<u8>, Broken> {
        let mut all = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if all.len() + chunk.len() > limit {
                return Err(Broken { problem: format!("the reply has more than {limit} bytes"), sent: true });
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    fn give_back(&mut self) {
        if let Some(mut connection) = self.connection.take()
            && !connection.sender.is_closed()
        {
            connection.unused_since = Instant::now();
            let mut idle = self.home.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < MOST_IDLE {
                idle.push(connection);
            }
        }
    }
}
