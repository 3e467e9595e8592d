//! A registry further away: a TCP proxy that delays what goes to it, and counts what was asked.
//!
//! Every chunk that passes is held for the delay of its direction; a new connection is not. A request without a body is one
//! chunk and a small answer another, so what is asked costs both delays. Connections stay open as long as both ends want.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::sleep;

/// A running proxy; dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    asked: Asked,
    _runtime: Runtime,
}

/// How long chunks are held. The timer's ticks are milliseconds, and it never wakes early.
#[derive(Debug, Clone, Copy)]
pub struct Delay {
    /// On their way to the registry.
    pub request: Duration,
    /// On their way back.
    pub answer: Duration,
}

/// The request lines since last asked.
type Asked = Arc<Mutex<Vec<String>>>;

/// What can be asked of a registry in a survey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Whether it is one.
    Ping,
    /// The catalog, or the tags of a repository.
    Listing,
    /// A manifest.
    Manifest,
    /// The digest of a manifest.
    Head,
    /// A blob.
    Blob,
    /// Anything else.
    Other,
}

impl Kind {
    fn of(line: &str) -> Self {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["GET", "/v2/", _] => Self::Ping,
            ["GET", path, _] if path.contains("/_catalog") || path.contains("/tags/list") => Self::Listing,
            ["GET", path, _] if path.contains("/manifests/") => Self::Manifest,
            ["HEAD", path, _] if path.contains("/manifests/") => Self::Head,
            ["GET", path, _] if path.contains("/blobs/") => Self::Blob,
            _ => Self::Other,
        }
    }
}

/// How often each kind was asked for.
pub type Counts = BTreeMap<Kind, usize>;

impl Proxy {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If the port cannot be had.
    pub fn start(registry: SocketAddr, delay: Delay) -> io::Result<Self> {
        let runtime = Runtime::new()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let (address, asked) = (listener.local_addr()?, Asked::default());
        runtime.spawn(accept(listener, registry, delay, Arc::clone(&asked)));
        Ok(Self { address, asked, _runtime: runtime })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The request lines since this, or [`Proxy::take`], was last called.
    pub fn take_lines(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was asked since this was last called.
    pub fn take(&self) -> Counts {
        let mut counts = Counts::new();
        for line in self.take_lines() {
            *counts.entry(Kind::of(&line)).or_default() += 1;
        }
        counts
    }
}

async fn accept(listener: TcpListener, registry: SocketAddr, delay: Delay, asked: Asked) {
    while let Ok((client, _)) = listener.accept().await {
        let asked = Arc::clone(&asked);
        tokio::spawn(async move {
            let server = TcpStream::connect(registry).await?;
            // Small chunks wait for the acknowledgement of the one before otherwise.
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::spawn(carry(from_server, to_client, delay.answer, |_| {}));
            let mut heads = Heads::default();
            let note = move |chunk: &[u8]| {
                asked.lock().unwrap_or_else(PoisonError::into_inner).extend(heads.take(chunk));
            };
            carry(from_client, to_server, delay.request, note).await
        });
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Duration,
    mut note: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut chunk = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut chunk).await?;
        if length == 0 {
            return Ok(());
        }
        note(&chunk[..length]);
        if !delay.is_zero() {
            sleep(delay).await;
        }
        to.write_all(&chunk[..length]).await?;
    }
}

/// Finds the request lines in what a client sends, wherever it is cut. Requests have no bodies here.
#[derive(Debug, Default)]
struct Heads(Vec<u8>);

impl Heads {
    fn take(&mut self, chunk: &[u8]) -> Vec<String> {
        self.0.extend_from_slice(chunk);
        let mut lines = Vec::new();
        while let Some(end) = self.0.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = self.0.drain(..end + 4).collect();
            let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
            lines.push(String::from_utf8_lossy(line).into_owned());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_found_wherever_they_are_cut() {
        let sent = b"GET /v2/ HTTP/1.1\r\nhost: a\r\n\r\nHEAD /v2/a/manifests/b HTTP/1.1\r\nhost: a\r\n\r\n";
        for cut in 0..sent.len() {
            let mut heads = Heads::default();
            let lines: Vec<String> =
                [&sent[..cut], &sent[cut..]].iter().flat_map(|chunk| heads.take(chunk)).collect();
            let kinds: Vec<Kind> = lines.iter().map(|line| Kind::of(line)).collect();
            assert_eq!(kinds, [Kind::Ping, Kind::Head], "cut at {cut}");
        }
    }
}
