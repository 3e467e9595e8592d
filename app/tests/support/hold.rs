//! A proxy before an object store that holds one request until it is let go: what happens between two requests of a registry
//! happens then (FACTS section 4.2). It may answer in the store's place, too, and tells what was asked.

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
    lost: oneshot::Sender<Lost>,
}

/// Whoever asked is gone, and the store must not see what it has not seen.
struct Lost;

/// What becomes of requests.
struct Rule {
    /// Which, by their method, their path with its query, and their body.
    concerns: Concerns,
    /// How many of those pass before.
    passing: usize,
    deed: Deed,
}

type Concerns = Box<dyn Fn(&Method, &str, &[u8]) -> bool + Send>;

enum Deed {
    /// One is held.
    Hold { when: When, reached: oneshot::Sender<()>, released: oneshot::Receiver<Lost> },
    /// So many are answered like this, and the store sees none of them.
    Answer { times: usize, status: StatusCode, body: String },
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

    /// Lets it go nowhere: the store never sees it, unless it has.
    pub fn lose(self) {
        let _ = self.lost.send(Lost);
    }
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
        let key = key.to_owned();
        self.hold_one(0, Box::new(move |asked, uri, _| *asked == method && uri.contains(&key)), when)
    }

    /// Will hold the request after the next `passing` that change something.
    pub fn hold_change(&self, passing: usize, when: When) -> Held {
        self.hold_one(passing, Box::new(|asked, _, _| is_change(asked)), when)
    }

    fn hold_one(&self, passing: usize, concerns: Concerns, when: When) -> Held {
        let (reached, is_reached) = oneshot::channel();
        let (lost, released) = oneshot::channel();
        let deed = Deed::Hold { when, reached, released };
        self.rules.lock().unwrap().push(Rule { concerns, passing, deed });
        Held { reached: Some(is_reached), lost }
    }

    /// Will answer the next `times` requests of this method in whose path, query or body `key` is.
    pub fn answer(&self, method: Method, key: &str, times: usize, status: u16, body: &str) {
        let (key, body) = (key.to_owned(), body.to_owned());
        let status = StatusCode::from_u16(status).unwrap();
        let concerns = move |asked: &Method, uri: &str, sent: &[u8]| {
            *asked == method && (uri.contains(&key) || String::from_utf8_lossy(sent).contains(&key))
        };
        let deed = Deed::Answer { times, status, body };
        self.rules.lock().unwrap().push(Rule { concerns: Box::new(concerns), passing: 0, deed });
    }

    /// How much is still to be held or answered.
    pub fn waits_for(&self) -> usize {
        self.rules.lock().unwrap().len()
    }

    /// Forgets what was to be held or answered.
    pub fn heal(&self) {
        self.rules.lock().unwrap().clear();
    }
}

/// Whether a request of this method does more than ask.
pub fn is_change(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn refused(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer
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
        let (head, body) = request.into_parts();
        let request = match body.collect().await {
            Ok(body) => Request::from_parts(head, body.to_bytes()),
            Err(error) => return refused(StatusCode::BAD_REQUEST, error.to_string()),
        };
        match self.take(&request) {
            None => self.forward(request).await,
            Some(Deed::Hold { when: When::Before, reached, released }) => {
                let _ = reached.send(());
                match released.await {
                    Ok(Lost) => refused(StatusCode::BAD_GATEWAY, "lost on the way".to_owned()),
                    Err(_) => self.forward(request).await,
                }
            }
            Some(Deed::Hold { when: When::After, reached, released }) => {
                let answer = self.forward(request).await;
                let _ = reached.send(());
                let _ = released.await;
                answer
            }
            Some(Deed::Answer { status, body, .. }) => refused(status, body),
        }
    }

    fn take(&self, request: &Request<Bytes>) -> Option<Deed> {
        let mut rules = self.rules.lock().unwrap();
        let uri = request.uri().to_string();
        let concerned = |rule: &Rule| (rule.concerns)(request.method(), &uri, request.body());
        let at = rules.iter().position(concerned)?;
        let rule = &mut rules[at];
        if rule.passing > 0 {
            rule.passing -= 1;
            return None;
        }
        match &mut rule.deed {
            Deed::Answer { times, status, body } if *times > 1 => {
                *times -= 1;
                Some(Deed::Answer { times: 1, status: *status, body: body.clone() })
            }
            _ => Some(rules.remove(at).deed),
        }
    }

    async fn forward(&self, request: Request<Bytes>) -> Response<Full<Bytes>> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            refused(StatusCode::BAD_GATEWAY, error.to_string())
        };
        self.try_forward(request).await.unwrap_or_else(failed)
    }

    /// Headers go as they are, the host as well: it is signed.
    async fn try_forward(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
        let (mut head, body) = request.into_parts();
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
