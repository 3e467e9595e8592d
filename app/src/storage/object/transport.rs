//! The HTTP under an object store: every request counted, whoever sends it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response, Uri};
use opendal::{Buffer, Error, HttpBody, HttpTransport};
use opendal_http_transport_reqwest::ReqwestTransport;
use reqwest::{Client, ClientBuilder};

use crate::registry::tls;

/// A store that takes longer to be reached is not there.
const CONNECT: Duration = Duration::from_secs(10);
/// A store that sends nothing for so long has lost the request.
const SILENCE: Duration = Duration::from_secs(60);

/// Whether the store's certificate is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certificates {
    /// It must be good.
    Verify,
    /// Whatever it is: `skipverify` in the registry's configuration.
    Ignore,
}

/// How many requests were sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Counter(Arc<AtomicU64>);

impl Counter {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sends requests and counts them: retries, and those that fetch credentials, are requests too.
pub(super) struct Counted {
    inner: ReqwestTransport,
    counter: Counter,
}

impl fmt::Debug for Counted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Counted").field("counter", &self.counter).finish_non_exhaustive()
    }
}

impl Counted {
    /// Over a client of its own that trusts whom the rest of the program trusts. `endpoint` is reached without a proxy if it is
    /// on this host.
    pub(super) fn new(
        endpoint: &str,
        certificates: Certificates,
        counter: Counter,
    ) -> Result<Self, crate::registry::Error> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = tls::build(|| plain(endpoint, certificates), &[])?;
        Ok(Self { inner: ReqwestTransport::new(client), counter })
    }
}

fn plain(endpoint: &str, certificates: Certificates) -> ClientBuilder {
    let builder = Client::builder()
        .user_agent(concat!("clean-registry/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE);
    let builder = match certificates {
        Certificates::Verify => builder,
        Certificates::Ignore => builder.tls_danger_accept_invalid_certs(true),
    };
    if is_loopback(endpoint) { builder.no_proxy() } else { builder }
}

fn is_loopback(endpoint: &str) -> bool {
    let url = reqwest::Url::parse(endpoint);
    let host = url.as_ref().ok().and_then(reqwest::Url::host_str).unwrap_or_default();
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl HttpTransport for Counted {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        self.counter.0.fetch_add(1, Ordering::Relaxed);
        let host = host(request.uri());
        self.inner.fetch(request).await.map_err(|error| from(&host, error))
    }
}

/// Who was asked, without what: paths and queries may hold secrets.
fn host(address: &Uri) -> String {
    let scheme = address.scheme_str().unwrap_or("http");
    let authority = address.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}")
}

/// The error with who did not answer.
fn from(host: &str, error: Error) -> Error {
    let named = Error::new(error.kind(), format!("{host}: {}", error.message()));
    let named = match (error.is_temporary(), error.is_persistent()) {
        (true, _) => named.set_temporary(),
        (_, true) => named.set_persistent(),
        _ => named,
    };
    named.set_source(error)
}

#[cfg(test)]
mod tests {
    use super::super::failure::failed;
    use super::*;

    #[tokio::test]
    async fn a_store_that_does_not_answer_is_named_and_nothing_else_of_the_request() {
        let port = {
            let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            closed.local_addr().unwrap().port()
        };
        let endpoint = format!("http://127.0.0.1:{port}");
        let transport = Counted::new(&endpoint, Certificates::Verify, Counter::default()).unwrap();
        let request = Request::get(format!("http://user:secret@127.0.0.1:{port}/bucket?signature=secret"));
        let error = transport.fetch(request.body(Buffer::new()).unwrap()).await.err().unwrap();
        let told = failed("key", &error).to_string();
        assert!(told.contains(&endpoint) && told.contains("refused"), "{told}");
        assert!(!told.contains("secret") && !told.contains("/bucket"), "{told}");
        assert!(error.is_temporary(), "it is tried again: {error}");
    }
}
