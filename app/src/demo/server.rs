//! A small registry in this process, over Distribution's own storage layout.
//!
//! It answers as Distribution 2.8 or 3.1 do (FACTS sections 2 and 7), remembers what it was asked, and fails on
//! request. It listens on the loopback interface alone and writes nowhere but below its root.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::ready;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use super::store::Store;
use answer::{Answer, Refusal, document, empty, text, with};
use auth::Gate;
pub use behaviour::{Auth, Behaviour, Delete, Effect, Faults, Generation, Rule};
use manifests::Untagging;
use route::Route;

mod answer;
mod auth;
mod behaviour;
mod blobs;
mod listing;
mod manifests;
mod route;

/// The largest manifest taken, as with the real ones.
const LARGEST_MANIFEST: usize = 4 << 20;

/// What one request asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path with its query.
    pub path: String,
}

impl Request {
    /// Whether it could have changed anything in the registry.
    #[must_use]
    pub fn is_mutation(&self) -> bool {
        ![Method::GET, Method::HEAD, Method::OPTIONS].contains(&self.method)
    }
}

/// A running registry; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl Server {
    /// Starts a registry over the storage below `root`, created where it is missing, on a free port of 127.0.0.1.
    /// Works inside and outside an asynchronous runtime: it brings its own threads.
    ///
    /// # Errors
    /// If the directory or the port cannot be had.
    pub fn start(root: &Path, behaviour: Behaviour) -> io::Result<Self> {
        let store = Store::open(root)?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let gate = Gate::new(behaviour.auth.clone(), behaviour.generation, &format!("http://{address}"));
        let shared = Arc::new(Shared { store, behaviour, address, gate, log: Mutex::default() });
        let runtime =
            Builder::new_multi_thread().worker_threads(2).thread_name("registry").enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { shared, runtime: Some(runtime) })
    }

    /// Where it is: `http://127.0.0.1:<port>`, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.shared.address)
    }

    /// The root directory of its storage, resolved.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.shared.store.root().to_owned()
    }

    /// Its storage, to look at or to change behind its back.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// What goes wrong; may be changed at any time.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.shared.behaviour.faults
    }

    /// All requests so far, in the order they came.
    #[must_use]
    pub fn log(&self) -> Vec<Request> {
        self.shared.log().clone()
    }

    /// Forgets the requests so far.
    pub fn clear_log(&self) {
        self.shared.log().clear();
    }

    /// How many requests so far had this method and a path that contains `path`.
    #[must_use]
    pub fn count(&self, method: &Method, path: &str) -> usize {
        self.shared
            .log()
            .iter()
            .filter(|request| request.method == method && request.path.contains(path))
            .count()
    }

    /// The requests so far that could have changed anything.
    #[must_use]
    pub fn mutations(&self) -> Vec<Request> {
        self.shared.log().iter().filter(|request| request.is_mutation()).cloned().collect()
    }

    /// Ends it: open connections break.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What all connections of one server share.
#[derive(Debug)]
struct Shared {
    store: Store,
    behaviour: Behaviour,
    address: SocketAddr,
    gate: Gate,
    log: Mutex<Vec<Request>>,
}

impl Shared {
    fn generation(&self) -> Generation {
        self.behaviour.generation
    }

    /// What this generation says where the two differ.
    fn either(&self, old: Value, new: Value) -> Value {
        match self.generation() {
            Generation::V2 => old,
            Generation::V3 => new,
        }
    }

    fn log(&self) -> MutexGuard<'_, Vec<Request>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, Arc::clone(&shared)))),
            // Out of descriptors, most likely: others must end first.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // Small answers wait 40 ms for their acknowledgement otherwise.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| respond(Arc::clone(&shared), request));
    // An error is a client that went away, or a connection dropped on purpose.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

type Whole = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// Notes the request, lets go wrong what shall, and answers.
async fn respond(shared: Arc<Shared>, request: hyper::Request<Incoming>) -> io::Result<Whole> {
    let path = request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let method = request.method().clone();
    let effect = shared.behaviour.faults.due(&method, &path);
    shared.log().push(Request { method, path });
    let generation = shared.generation();
    match &effect {
        Some(Effect::DropConnection) => return Err(io::ErrorKind::ConnectionAborted.into()),
        Some(Effect::Html404) => return Ok(whole(html_404(), Delivery::Right)),
        Some(Effect::Status(status, retry_after)) => {
            return Ok(whole(failure(*status, *retry_after, generation), Delivery::Right));
        }
        Some(Effect::Slow(delay)) => tokio::time::sleep(*delay).await,
        Some(Effect::BeforeAnswering(happen)) => {
            let happen = Arc::clone(happen);
            tokio::task::spawn_blocking(move || happen()).await.map_err(io::Error::other)?;
        }
        _ => {}
    }
    let untagging = match effect {
        Some(Effect::LeaveTags) => Untagging::Forgotten,
        _ => Untagging::Done,
    };
    let answer =
        dispatch(&shared, request, untagging).await.unwrap_or_else(|refusal| refusal.answer(generation));
    Ok(match effect {
        Some(Effect::CutBody) => whole(answer, Delivery::Half),
        Some(Effect::WrongBytes) => whole(answer, Delivery::Wrong),
        Some(Effect::DoneBut(status)) => whole(failure(status, None, generation), Delivery::Right),
        _ => whole(answer, Delivery::Right),
    })
}

async fn dispatch(
    shared: &Shared,
    request: hyper::Request<Incoming>,
    untagging: Untagging,
) -> Result<Answer, Refusal> {
    let (parts, body) = request.into_parts();
    let (method, uri, headers) = (&parts.method, &parts.uri, &parts.headers);
    let route = Route::of(uri.path());
    if route == Route::Unknown {
        return Ok(text(StatusCode::NOT_FOUND, "404 page not found\n"));
    }
    shared.gate.check(method, uri, &route, headers)?;
    let methods = route.methods(shared.behaviour.delete);
    if !methods.is_empty() && !methods.contains(&method.as_str()) {
        return Ok(not_allowed(method, methods));
    }
    match (&route, method.as_str()) {
        (Route::Unknown | Route::Base, _) => {
            let base = document(StatusCode::OK, shared.generation(), &json!({}));
            Ok(base.map(|_| Bytes::from_static(b"{}")))
        }
        (Route::Token, _) => shared.gate.give(uri, headers),
        (Route::Catalog, _) => listing::catalog(shared, uri),
        (Route::Tags(repo), _) => listing::tags(shared, uri, repo),
        (Route::Manifest(repo, reference), "PUT") => {
            let limited = Limited::new(body, LARGEST_MANIFEST).collect().await;
            let bytes = limited.map_err(|error| Refusal::manifest_invalid(&error.to_string()))?.to_bytes();
            manifests::put(shared, repo, reference, headers, &bytes)
        }
        (Route::Manifest(repo, reference), "DELETE") => manifests::delete(shared, repo, reference, untagging),
        (Route::Manifest(repo, reference), _) => manifests::get(shared, repo, reference, headers),
        (Route::Blob(repo, digest), "DELETE") => blobs::delete(shared, repo, digest.as_ref()),
        (Route::Blob(repo, digest), _) => blobs::get(shared, repo, digest.as_ref(), headers),
        (Route::Uploads(repo), "POST") => blobs::begin(shared, repo, uri, headers),
        (Route::Uploads(_), _) => Err(blobs::upload_unknown(shared)),
        (Route::Upload(repo, id), "PATCH") => blobs::append(shared, repo, id, headers, body).await,
        (Route::Upload(repo, id), "PUT") => blobs::finish(shared, repo, id, uri, headers, body).await,
        (Route::Upload(repo, id), "DELETE") => blobs::cancel(shared, repo, id),
        (Route::Upload(repo, id), _) => blobs::status(shared, repo, id, headers),
    }
}

fn not_allowed(method: &Method, methods: &[&str]) -> Answer {
    let allow = [("allow", &*methods.join(", "))];
    if method == Method::OPTIONS {
        empty(StatusCode::OK, &allow)
    } else {
        with(text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed\n"), &allow)
    }
}

fn html_404() -> Answer {
    let page = "<html><head><title>404 Not Found</title></head><body><h1>404 Not Found</h1></body></html>\n";
    with(text(StatusCode::NOT_FOUND, page), &[("content-type", "text/html")])
}

/// What a proxy or an overloaded registry says.
fn failure(status: u16, retry_after: Option<u64>, generation: Generation) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let (code, message) = match status {
        StatusCode::UNAUTHORIZED => ("UNAUTHORIZED", "authentication required"),
        StatusCode::FORBIDDEN => ("DENIED", "requested access to the resource is denied"),
        StatusCode::NOT_FOUND => ("MANIFEST_UNKNOWN", "manifest unknown"),
        StatusCode::METHOD_NOT_ALLOWED => ("UNSUPPORTED", "The operation is unsupported."),
        StatusCode::TOO_MANY_REQUESTS => ("TOOMANYREQUESTS", "too many requests"),
        _ => ("UNKNOWN", "unknown error"),
    };
    let answer = Refusal::new(status, code, message).answer(generation);
    match retry_after {
        Some(seconds) => with(answer, &[("retry-after", &seconds.to_string())]),
        None => answer,
    }
}

/// How an answer's body reaches the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Right,
    /// The connection breaks in its middle.
    Half,
    /// Every byte is another one.
    Wrong,
}

fn whole(mut answer: Answer, delivery: Delivery) -> Whole {
    let version = HeaderValue::from_static("registry/2.0");
    answer.headers_mut().insert("docker-distribution-api-version", version);
    match delivery {
        Delivery::Right => answer.map(|body| Full::new(body).map_err(|never| match never {}).boxed_unsync()),
        Delivery::Wrong => {
            let flipped = |body: Bytes| body.iter().map(|byte| !byte).collect::<Bytes>();
            answer.map(|body| Full::new(flipped(body)).map_err(|never| match never {}).boxed_unsync())
        }
        Delivery::Half => {
            let length = HeaderValue::from(answer.body().len());
            answer.headers_mut().insert(header::CONTENT_LENGTH, length);
            answer.map(|body| {
                let half = stream::once(ready(Ok(Frame::data(body.slice(..body.len() / 2)))));
                // What was sent so far must be on its way, or it is lost with the connection.
                let end = stream::once(async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Err(io::ErrorKind::ConnectionAborted.into())
                });
                StreamBody::new(half.chain(end)).boxed_unsync()
            })
        }
    }
}

/// The authority in addresses we hand out: the one the client used.
fn host(shared: &Shared, headers: &HeaderMap) -> String {
    let given = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    given.map_or_else(|| shared.address.to_string(), str::to_owned)
}
