//! How many requests a listing takes, and how many of them at once: against a server in this process that only lists.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clean_registry::storage::{Depth, Entry, Storage, StorageError, absolute};
use clean_registry_core::name::Digest;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;

use super::open;

const PAGE: usize = 1000;
/// What every answer takes: long enough for requests to overlap even where the machine is busy.
const LATENCY: Duration = Duration::from_millis(50);

/// A bucket that can be listed.
struct Bucket {
    keys: Vec<String>,
    now: AtomicUsize,
    most: AtomicUsize,
    /// Requests that it has no time for yet.
    overloads: AtomicUsize,
}

impl Bucket {
    /// Serves these keys; returns itself and a storage over it.
    async fn serve(keys: impl IntoIterator<Item = String>) -> (Arc<Self>, Arc<dyn Storage>) {
        let keys = keys.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let bucket = Arc::new(Self {
            keys,
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            overloads: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(Arc::clone(&bucket).accept(listener));
        let parameters = json!({"bucket": "b", "region": "us-east-1", "accesskey": "a", "secretkey": "s",
            "regionendpoint": format!("http://{address}")});
        let storage = open("s3", parameters.as_object().unwrap(), &[]);
        (bucket, storage)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let bucket = Arc::clone(&self);
            let service = service_fn(move |request| Arc::clone(&bucket).answer(request));
            let serving =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(serving);
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(LATENCY).await;
        let overloads = |left: usize| left.checked_sub(1);
        if self.overloads.fetch_update(Ordering::SeqCst, Ordering::SeqCst, overloads).is_ok() {
            self.now.fetch_sub(1, Ordering::SeqCst);
            let slow =
                "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
            return Ok(Response::builder().status(503).body(Full::new(slow.into())).unwrap());
        }
        if request.method() == hyper::Method::HEAD {
            self.now.fetch_sub(1, Ordering::SeqCst);
            return Ok(Response::builder().status(404).body(Full::default()).unwrap());
        }
        let url = reqwest::Url::parse(&format!("http://x{}", request.uri())).unwrap();
        let query = |name: &str| {
            let found = url.query_pairs().find(|(other, _)| other == name);
            found.map(|(_, value)| value.into_owned()).unwrap_or_default()
        };
        let after = query("start-after").max(query("continuation-token"));
        let page = self.page(&query("prefix"), &query("delimiter"), &after);
        self.now.fetch_sub(1, Ordering::SeqCst);
        Ok(Response::new(Full::new(page.into())))
    }

    fn page(&self, prefix: &str, delimiter: &str, after: &str) -> String {
        let (mut xml, mut count, mut last, mut folder) = (String::new(), 0, "", String::new());
        let mut is_truncated = false;
        let begin = self.keys.partition_point(|key| key.as_str() < prefix.max(after));
        for key in self.keys[begin..].iter().take_while(|key| key.starts_with(prefix)) {
            let inner = key[prefix.len()..].find('/').filter(|_| !delimiter.is_empty());
            let common = inner.map(|at| &key[..=prefix.len() + at]);
            if key.as_str() <= after
                || common == Some(&*folder)
                || (common.is_some() && common == Some(after))
            {
                continue;
            }
            if count == PAGE {
                is_truncated = true;
                break;
            }
            count += 1;
            match common {
                Some(common) => {
                    folder = common.to_owned();
                    last = common;
                    xml.push_str(&format!("<CommonPrefixes><Prefix>{common}</Prefix></CommonPrefixes>"));
                }
                None => {
                    last = key;
                    xml.push_str(&format!(
                        "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                         <ETag>\"x\"</ETag><Size>1</Size></Contents>"
                    ));
                }
            }
        }
        let token = if is_truncated {
            format!("<NextContinuationToken>{last}</NextContinuationToken>")
        } else {
            String::new()
        };
        format!("<ListBucketResult><IsTruncated>{is_truncated}</IsTruncated>{token}{xml}</ListBucketResult>")
    }
}

/// Lists, and returns the requests it took; every key must come once.
async fn list(bucket: &Bucket, storage: &dyn Storage, prefix: &str) -> usize {
    let found = Mutex::new(Vec::new());
    let sink = |entries: Vec<Entry>| found.lock().unwrap().extend(entries.into_iter().map(|entry| entry.key));
    let before = storage.requests();
    storage.list(prefix, Depth::Everything, &sink).await.unwrap();
    let mut found = found.into_inner().unwrap();
    found.sort();
    let expected: Vec<&String> = bucket.keys.iter().filter(|key| key.starts_with(prefix)).collect();
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().eq(expected));
    usize::try_from(storage.requests() - before).unwrap()
}

fn blobs(count: usize) -> impl Iterator<Item = String> {
    let hex = |at: usize| Digest::of(&at.to_le_bytes()).to_string().replace("sha256:", "");
    (0..count).map(hex).map(|hex| absolute(&format!("blobs/sha256/{}/{hex}/data", &hex[..2])))
}

fn links(repos: usize, each: usize, below: &str) -> impl Iterator<Item = String> {
    let link =
        move |repo: usize, at: usize| format!("repositories/{below}r{repo:04}/_layers/sha256/{at:08x}/link");
    (0..repos).flat_map(move |repo| (0..each).map(move |at| absolute(&link(repo, at))))
}

#[tokio::test]
async fn small_registries_take_as_many_requests_as_there_are_pages() {
    for (count, pages) in [(1, 1), (999, 1), (1001, 2), (2500, 3), (9500, 10)] {
        let (bucket, storage) = Bucket::serve(blobs(count)).await;
        assert_eq!(list(&bucket, &*storage, &absolute("blobs/")).await, pages, "{count} blobs");
        let (bucket, storage) = Bucket::serve(links(count.div_ceil(100), 100.min(count), "")).await;
        let requests = list(&bucket, &*storage, &absolute("repositories/")).await;
        assert!(requests <= bucket.keys.len().div_ceil(PAGE) + 2, "{requests} for {count} links");
    }
    let (bucket, storage) = Bucket::serve([]).await;
    assert_eq!(
        list(&bucket, &*storage, "other/").await,
        2,
        "nothing is listed, and then what lies beside it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_blobs_are_listed_side_by_side_for_a_tenth_more() {
    let (bucket, storage) = Bucket::serve(blobs(110_000)).await;
    let requests = list(&bucket, &*storage, &absolute("blobs/")).await;
    assert!(requests * 10 <= 110 * 11, "{requests} requests for 110 pages");
    let most = bucket.most.load(Ordering::SeqCst);
    assert!(most >= 8, "{most} at once");
    assert!(list(&bucket, &*storage, &absolute("blobs/sha256/")).await * 10 <= 110 * 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_repositories_are_listed_side_by_side_for_a_tenth_more() {
    for below in ["", "company/team/"] {
        let (bucket, storage) = Bucket::serve(links(240, 500, below)).await;
        let requests = list(&bucket, &*storage, &absolute("repositories/")).await;
        assert!(requests <= 120 + 12 + 10, "{requests} requests for 120 pages below {below:?}");
        let most = bucket.most.load(Ordering::SeqCst);
        assert!(most >= 6, "{most} at once below {below:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_large_repository_between_small_ones_is_whole() {
    let keys = links(3, 30_000, "big/").chain(links(50, 3, "")).chain(links(2, 3, "z/"));
    let (bucket, storage) = Bucket::serve(keys).await;
    let requests = list(&bucket, &*storage, &absolute("repositories/")).await;
    assert!(requests <= 91 + 9 + 20, "{requests} requests for 91 pages");
    list(&bucket, &*storage, "").await;
}

#[tokio::test]
async fn keys_with_empty_parts_are_refused_and_folders_are_left_out() {
    let (bucket, storage) = Bucket::serve([absolute("blobs/x/data"), absolute("blobs/x/")]).await;
    let found = Mutex::new(Vec::new());
    let sink = |entries: Vec<Entry>| found.lock().unwrap().extend(entries.into_iter().map(|entry| entry.key));
    storage.list("", Depth::Everything, &sink).await.unwrap();
    assert_eq!(found.into_inner().unwrap(), [absolute("blobs/x/data")]);
    drop(bucket);
    let sink = |_: Vec<Entry>| ();
    let (_bucket, storage) = Bucket::serve([absolute("blobs//data")]).await;
    let refused = storage.list("", Depth::Everything, &sink).await.unwrap_err();
    assert!(refused.to_string().contains("empty part"), "{refused}");
}

#[tokio::test]
async fn keys_that_begin_with_a_slash_are_refused_and_not_taken_for_an_empty_storage() {
    let (_bucket, storage) = Bucket::serve([format!("/{}", absolute("blobs/x/data"))]).await;
    let sink = |_: Vec<Entry>| panic!("nothing is there");
    let refused = storage.list(&absolute("blobs/"), Depth::Layout, &sink).await.unwrap_err();
    assert!(refused.to_string().starts_with("/docker/registry/v2/blobs/x/data"), "{refused}");
    let (_bucket, storage) = Bucket::serve(["something/else".to_owned()]).await;
    storage.list(&absolute("blobs/"), Depth::Layout, &sink).await.unwrap();
}

#[tokio::test]
async fn a_page_that_the_store_has_no_time_for_is_asked_for_again() {
    let (bucket, storage) = Bucket::serve(blobs(2500)).await;
    bucket.overloads.store(2, Ordering::SeqCst);
    assert_eq!(
        list(&bucket, &*storage, &absolute("blobs/")).await,
        5,
        "three pages, and two that were refused"
    );
    bucket.overloads.store(usize::MAX, Ordering::SeqCst);
    let refused = storage.list(&absolute("blobs/"), Depth::Layout, &|_| ()).await.unwrap_err();
    assert!(matches!(refused, StorageError::Unavailable { .. }), "{refused:?}");
    assert!(refused.to_string().contains("SlowDown"), "{refused}");
}
