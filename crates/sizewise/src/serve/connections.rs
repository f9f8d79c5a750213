//! How are connections taken, kept within limits, and let go when the server stops?

use super::{
    Decider, KeyCheck, Serving,
    settings::{ServeError, Settings},
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

/// Most headers of a request, and most bytes of all of them together.
const HEADERS: usize = 64;
const HEAD_BYTES: usize = 32 << 10;
/// Connections that may wait to be taken; the system may allow fewer.
const WAITING: i32 = 4_096;
/// How long the server rests when the machine can open no more connections.
const REST: Duration = Duration::from_millis(50);

/// A server that holds its address but takes no connection yet.
pub struct Server<D> {
    serving: Arc<Serving<D>>,
    listener: std::net::TcpListener,
    address: SocketAddr,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections whose requests did not finish before the deadline.
    pub cut: usize,
}

impl<D: Decider> Server<D> {
    /// Checks the settings and takes the address.
    ///
    /// # Errors
    /// Fails when the address needs keys and there are none, or cannot be listened on.
    pub fn bind(settings: Settings, keys: Arc<dyn KeyCheck>, decider: Arc<D>) -> Result<Self, ServeError> {
        settings.check(keys.any())?;
        let bind = settings.bind;
        let unavailable = |source| ServeError::Address { bind, source };
        let listener = std::net::TcpListener::bind(bind).map_err(unavailable)?;
        listener.set_nonblocking(true).map_err(unavailable)?;
        // Listening again only makes the queue longer: a caller who finds it full waits a second before the system tries again.
        SockRef::from(&listener).listen(WAITING).map_err(unavailable)?;
        let address = listener.local_addr().map_err(unavailable)?;
        Ok(Self { serving: Arc::new(Serving::new(settings, keys, decider)), listener, address })
    }

    /// The address, with the port that was free where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` comes, then stops in order: `/readyz` says no, no new connections, requests in flight finish.
    ///
    /// # Errors
    /// Fails when the address cannot be watched for connections.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> Result<Drained, ServeError> {
        let Self { serving, listener, address } = self;
        let listener = TcpListener::from_std(listener)
            .map_err(|source| ServeError::Address { bind: address, source })?;
        let (stop, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let delay = serving.settings.drain_delay;
        let draining = Arc::clone(&serving);
        let leaving = async move {
            shutdown.await;
            draining.draining.store(true, Ordering::Relaxed);
            sleep(delay).await;
        };
        take_connections(&serving, &listener, &stopped, &mut connections, leaving).await;
        drop(listener);
        serving.stopping.store(true, Ordering::Relaxed);
        let _ = stop.send(true);
        let finished = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(serving.settings.drain_deadline, finished).await;
        let cut = connections.len();
        connections.shutdown().await;
        Ok(Drained { cut })
    }
}

/// Serves on threads of its own until `shutdown` comes; `ready` is told the address once connections are taken.
///
/// # Errors
/// Fails when the server cannot start.
pub fn run<D: Decider>(
    settings: Settings,
    keys: Arc<dyn KeyCheck>,
    decider: Arc<D>,
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()> + Send,
) -> Result<Drained, ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.workers.get())
        .thread_name("serve")
        .enable_all()
        .build()
        .map_err(ServeError::Threads)?;
    let server = Server::bind(settings, keys, decider)?;
    ready(server.address());
    runtime.block_on(server.serve(shutdown))
}

async fn take_connections<D: Decider>(
    serving: &Arc<Serving<D>>,
    listener: &TcpListener,
    stopped: &watch::Receiver<bool>,
    connections: &mut JoinSet<()>,
    leaving: impl Future<Output = ()>,
) {
    let mut leaving = pin!(leaving);
    loop {
        let room = connections.len() < serving.settings.connections;
        tokio::select! {
            () = &mut leaving => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if room => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(Arc::clone(serving), stream, stopped.clone()));
                }
                // The caller hung up before it was taken, or the machine is out of file descriptors: only the latter
                // lasts, and asking again at once would spin.
                Err(_) => sleep(REST).await,
            },
        }
    }
}

/// Answers the requests of one connection, one after the other.
async fn converse<D: Decider>(
    serving: Arc<Serving<D>>,
    stream: TcpStream,
    mut stopped: watch::Receiver<bool>,
) {
    let _counted = serving.metrics.connection();
    // Answers are small and whole: waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let serving = &serving;
        async move { Ok::<_, Infallible>(serving.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(serving.settings.header_timeout)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // A connection that breaks off has nobody left to be told.
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stopped| *stopped) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
