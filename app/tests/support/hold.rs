//! A proxy before an object store that holds one request until it is let go: what happens between two requests of a registry
//! happens then (FACTS section 4.2).

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, EXPECT, HOST, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A running proxy. Dropping it ends it.
pub struct Proxy {
    address: SocketAddr,
    rules: Rules,
    asked: Asked,
    accepting: JoinHandle<()>,
}

/// Where a request is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The store has not seen it yet.
    Before,
    /// The store has done it, and who asked does not know yet.
    After,
}

/// A request that is, or will be, held. Dropping it lets it go.
pub struct Held {
    reached: Option<oneshot::Receiver<()>>,
    _release: oneshot::Sender<()>,
}

struct Rule {
    method: Method,
    key: String,
    when: When,
    reached: oneshot::Sender<()>,
    released: oneshot::Receiver<()>,
}

type Rules = Arc<Mutex<Vec<Rule>>>;
type Asked = Arc<Mutex<Vec<(Method, String)>>>;

impl Held {
    /// Waits until it has come.
    pub async fn reached(&mut self) {
        if let Some(reached) = self.reached.take() {
            reached.await.expect("the request comes before the proxy ends");
        }
    }

    /// Lets it go.
    pub fn release(self) {}
}

impl Proxy {
    /// Starts one before the store at `upstream`, such as `http://127.0.0.1:9000`.
    pub async fn start(upstream: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (rules, asked) = (Rules::default(), Asked::default());
        let url = upstream.trim_end_matches('/').to_owned();
        let upstream = Upstream { http, url, rules: rules.clone(), asked: asked.clone() };
        Self { address, rules, asked, accepting: tokio::spawn(accept(listener, upstream)) }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked since this was last called: methods, and paths with their queries.
    pub fn take_asked(&self) -> Vec<(Method, String)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    /// Will hold the next request of this method whose path and query contain `key`; no other.
    pub fn hold(&self, method: Method, key: &str, when: When) -> Held {
        let (reached, is_reached) = oneshot::channel();
        let (release, released) = oneshot::channel();
        let rule = Rule { method, key: key.to_owned(), when, reached, released };
        self.rules.lock().unwrap().push(rule);
        Held { reached: Some(is_reached), _release: release }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[derive(Clone)]
struct Upstream {
    http: reqwest::Client,
    url: String,
    rules: Rules,
    asked: Asked,
}

async fn accept(listener: TcpListener, upstream: Upstream) {
    while let Ok((stream, _)) = listener.accept().await {
        let upstream = upstream.clone();
        let answer = service_fn(move |request| {
            let upstream = upstream.clone();
            async move { Ok::<_, Infallible>(upstream.answer(request).await) }
        });
        tokio::spawn(
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer),
        );
    }
}

impl Upstream {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.asked.lock().unwrap().push((request.method().clone(), request.uri().to_string()));
        let rule = self.take(&request);
        let Some(Rule { when, reached, released, .. }) = rule else { return self.forward(request).await };
        match when {
            When::Before => {
                let _ = reached.send(());
                let _ = released.await;
                self.forward(request).await
            }
            When::After => {
                let answer = self.forward(request).await;
                let _ = reached.send(());
                let _ = released.await;
                answer
            }
        }
    }

    fn take(&self, request: &Request<Incoming>) -> Option<Rule> {
        let mut rules = self.rules.lock().unwrap();
        let uri = request.uri().to_string();
        let concerns = |rule: &Rule| rule.method == *request.method() && uri.contains(&rule.key);
        let at = rules.iter().position(concerns)?;
        Some(rules.remove(at))
    }

    async fn forward(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.try_forward(request).await.unwrap_or_else(|error| {
            let mut failed = Response::new(Full::from(error.to_string()));
            *failed.status_mut() = StatusCode::BAD_GATEWAY;
            failed
        })
    }

    /// Headers go as they are, the host as well: it is signed.
    async fn try_forward(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
        let (mut head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        for name in [CONNECTION, EXPECT, TRANSFER_ENCODING] {
            head.headers.remove(name);
        }
        debug_assert!(head.headers.contains_key(HOST));
        let asked = self.http.request(head.method, format!("{}{path}", self.url));
        let answered = asked.headers(head.headers).body(body).send().await?;
        let mut answer = Response::builder().status(answered.status());
        for (name, value) in answered.headers() {
            if name != CONNECTION && name != TRANSFER_ENCODING {
                answer = answer.header(name, value);
            }
        }
        Ok(answer.body(Full::new(answered.bytes().await?))?)
    }
}
