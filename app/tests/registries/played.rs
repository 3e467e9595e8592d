//! A registry that plays one of the vendors': it holds manifests, tags and blobs, and its answers are those that the vendor
//! documents, each test's own in front of what every registry answers. What it was asked is remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use clean_registry::demo::builder::Built;
use clean_registry_core::name::Digest;
use serde_json::json;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub target: String,
    headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    /// A header, by its name in lower case; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::status(status).header("Content-Type", "application/json").body(body.to_string().into_bytes())
    }

    /// An error of the specification.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self::json(status, &json!({ "errors": [{ "code": code, "message": message }] }))
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn text(self, text: &str) -> Self {
        self.header("Content-Type", "text/plain").body(text.as_bytes().to_vec())
    }

    fn body(self, body: Vec<u8>) -> Self {
        Self { body, ..self }
    }
}

/// What it holds: all of it in the repository `shop/api`.
#[derive(Debug, Default)]
pub struct Holdings {
    pub manifests: BTreeMap<Digest, (String, Vec<u8>)>,
    pub tags: BTreeMap<String, Digest>,
    blobs: BTreeMap<Digest, Vec<u8>>,
}

impl Holdings {
    /// What is pushed, with what it needs.
    pub fn push(&mut self, built: &Built) -> Digest {
        for child in &built.children {
            self.push(child);
        }
        for blob in &built.blobs {
            self.blobs.insert(Digest::of(blob), blob.clone());
        }
        self.manifests.insert(built.digest(), (built.media_type.as_str().to_owned(), built.bytes.clone()));
        built.digest()
    }

    /// The same under a tag.
    pub fn push_as(&mut self, tag: &str, built: &Built) {
        let digest = self.push(built);
        self.tags.insert(tag.to_owned(), digest);
    }

    /// The manifest that a tag or a digest names.
    pub fn find(&self, reference: &str) -> Option<Digest> {
        let by_digest = reference.parse().ok().filter(|digest| self.manifests.contains_key(digest));
        by_digest.or_else(|| {
            self.tags.get(reference).copied().filter(|digest| self.manifests.contains_key(digest))
        })
    }

    pub fn tags_on(&self, digest: Digest) -> Vec<String> {
        self.tags.iter().filter(|(_, on)| **on == digest).map(|(tag, _)| tag.clone()).collect()
    }

    /// Deletes a manifest with every tag on it, or a tag alone; as most do.
    pub fn delete(&mut self, reference: &str) -> Answer {
        if let Ok(digest) = reference.parse::<Digest>() {
            self.tags.retain(|_, on| *on != digest);
            return gone(self.manifests.remove(&digest).is_some());
        }
        gone(self.tags.remove(reference).is_some())
    }
}

fn gone(was_there: bool) -> Answer {
    if was_there { Answer::status(202) } else { unknown() }
}

/// What was asked for does not exist.
pub fn unknown() -> Answer {
    Answer::error(404, "MANIFEST_UNKNOWN", "manifest unknown")
}

/// What the vendor answers in its own way; `None`: as every registry.
type Own = dyn Fn(&Asked, &mut Holdings) -> Option<Answer> + Send + Sync;

/// A running one. Dropping it ends it.
pub struct Played {
    pub url: String,
    state: Arc<State>,
}

struct State {
    holdings: Mutex<Holdings>,
    log: Mutex<Vec<Asked>>,
    own: Box<Own>,
    has_ended: AtomicBool,
}

impl Played {
    pub fn start(own: impl Fn(&Asked, &mut Holdings) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            holdings: Mutex::default(),
            log: Mutex::default(),
            own: Box::new(own),
            has_ended: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.has_ended.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), shared) = (stream, Arc::clone(&shared)) else { continue };
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { url, state }
    }

    pub fn holdings(&self) -> MutexGuard<'_, Holdings> {
        self.state.holdings.lock().unwrap()
    }

    /// What was asked with this method.
    pub fn asked(&self, method: &str) -> Vec<String> {
        let log = self.state.log.lock().unwrap();
        log.iter().filter(|asked| asked.method == method).map(|asked| asked.target.clone()).collect()
    }

    /// All that was asked.
    pub fn log(&self) -> Vec<Asked> {
        self.state.log.lock().unwrap().clone()
    }

    /// The tags that are left, sorted.
    pub fn tags(&self) -> Vec<String> {
        self.holdings().tags.keys().cloned().collect()
    }

    /// Whether it holds this manifest.
    pub fn holds(&self, built: &Built) -> bool {
        self.holdings().manifests.contains_key(&built.digest())
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        self.state.has_ended.store(true, Ordering::SeqCst);
        // The listener waits for one more.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

fn serve(mut stream: TcpStream, state: &State) {
    let Some(asked) = read(&mut stream) else { return };
    state.log.lock().unwrap().push(asked.clone());
    let answer = {
        let mut holdings = state.holdings.lock().unwrap();
        (state.own)(&asked, &mut holdings).unwrap_or_else(|| usual(&asked, &mut holdings))
    };
    let body: &[u8] = if asked.method == "HEAD" { &[] } else { &answer.body };
    let headers: String = answer.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "HTTP/1.1 {} Answer\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
        answer.status,
        answer.body.len()
    );
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
}

fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        match stream.read(&mut buffer).ok()? {
            0 => return None,
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let pairs = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let headers: BTreeMap<String, String> =
        pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let length: usize = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
    while bytes.len() < end + length {
        match stream.read(&mut buffer).ok()? {
            0 => return None,
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
    let mut line = head.split(' ');
    let (method, target) = (line.next()?.to_owned(), line.next()?.to_owned());
    Some(Asked { method, target, headers, body: bytes.split_off(end) })
}

/// What every registry answers.
fn usual(asked: &Asked, holdings: &mut Holdings) -> Answer {
    let path = asked.path();
    if path == "/v2/" {
        return Answer::json(200, &json!({}));
    }
    if path == "/v2/_catalog" {
        return Answer::json(200, &json!({ "repositories": ["shop/api"] }));
    }
    let Some(rest) = path.strip_prefix("/v2/shop/api/") else {
        return Answer::error(404, "NAME_UNKNOWN", "repository name not known to registry");
    };
    match (asked.method.as_str(), rest.split_once('/')) {
        ("GET", Some(("tags", "list"))) => {
            let tags: BTreeSet<&String> = holdings.tags.keys().collect();
            Answer::json(200, &json!({ "name": "shop/api", "tags": tags }))
        }
        ("GET" | "HEAD", Some(("manifests", reference))) => match holdings.find(reference) {
            Some(digest) => {
                let (media_type, bytes) = &holdings.manifests[&digest];
                let answer = Answer::status(200).header("Content-Type", media_type);
                answer.header("Docker-Content-Digest", &digest.to_string()).body(bytes.clone())
            }
            None => unknown(),
        },
        ("GET", Some(("blobs", digest))) => {
            match digest.parse().ok().and_then(|digest| holdings.blobs.get(&digest)) {
                Some(bytes) => Answer::status(200).body(bytes.clone()),
                None => Answer::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
            }
        }
        ("PUT", Some(("manifests", reference))) => {
            let digest = Digest::of(&asked.body);
            let media_type = asked.header("content-type").to_owned();
            holdings.manifests.insert(digest, (media_type, asked.body.clone()));
            if reference.parse::<Digest>().is_err() {
                holdings.tags.insert(reference.to_owned(), digest);
            }
            Answer::status(201).header("Docker-Content-Digest", &digest.to_string())
        }
        ("DELETE", Some(("manifests", reference))) => holdings.delete(reference),
        _ => Answer::status(404),
    }
}
