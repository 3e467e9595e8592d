//! What a client of a registry does, one request at a time. Whatever is refused is an answer, not a failure.

use clean_registry_core::name::{Digest, MediaType};
use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use thiserror::Error;

use super::dice::Dice;

const ACCEPTED: [&str; 4] =
    [MediaType::OCI_MANIFEST, MediaType::OCI_INDEX, MediaType::DOCKER_MANIFEST, MediaType::DOCKER_LIST];

/// A client of one registry, which keeps its connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
}

/// Why something was not done.
#[derive(Debug, Error)]
pub enum Refused {
    /// The registry says so.
    #[error("{what}: {status}")]
    Status {
        /// What was asked for.
        what: &'static str,
        /// What it says.
        status: StatusCode,
    },
    /// It gave no answer, or half of one.
    #[error("no answer: {0}")]
    Transport(#[from] reqwest::Error),
    /// It answers what no registry should.
    #[error("{what}: an answer that makes no sense")]
    Nonsense {
        /// What was asked for.
        what: &'static str,
    },
}

impl Client {
    /// A client of the registry at `address`.
    ///
    /// # Errors
    /// If there is no TLS, which it does not use.
    pub fn new(address: &str) -> Result<Self, Refused> {
        // Another of this process may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build()?;
        let url = format!("http://{address}/").parse().map_err(|_| Refused::Nonsense { what: "address" })?;
        Ok(Self { http, url })
    }

    fn at(&self, path: &str) -> Result<Url, Refused> {
        self.url.join(path).map_err(|_| Refused::Nonsense { what: "location" })
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Refused> {
        Ok(self.http.request(method, self.at(path)?))
    }

    /// Whether a repository has a blob.
    ///
    /// # Errors
    /// [`Refused`], as everything here.
    pub async fn has_blob(&self, repo: &str, digest: Digest) -> Result<bool, Refused> {
        let answer = self.request(Method::HEAD, &format!("/v2/{repo}/blobs/{digest}"))?.send().await?;
        match answer.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            status => Err(Refused::Status { what: "HEAD blob", status }),
        }
    }

    /// Asks for a blob of another repository. Where it cannot be had, its bytes are sent, as a docker client does.
    pub async fn mount(&self, repo: &str, from: &str, bytes: &[u8]) -> Result<(), Refused> {
        let digest = Digest::of(bytes);
        let begin = self.request(Method::POST, &format!("/v2/{repo}/blobs/uploads/"))?;
        let answer = begin.query(&[("mount", &*digest.to_string()), ("from", from)]).send().await?;
        match answer.status() {
            StatusCode::CREATED => done(answer).await,
            StatusCode::ACCEPTED => self.finish(answer, bytes).await,
            status => Err(Refused::Status { what: "mount", status }),
        }
    }

    /// Sends a blob; now and then its bytes before the last request.
    pub async fn upload(&self, repo: &str, bytes: &[u8], dice: &mut Dice) -> Result<(), Refused> {
        let begun = self.request(Method::POST, &format!("/v2/{repo}/blobs/uploads/"))?.send().await?;
        let begun = expect(begun, StatusCode::ACCEPTED, "begin upload")?;
        if dice.one_in(3) {
            let patch = self.http.request(Method::PATCH, self.location(&begun)?);
            let patch = patch.header(CONTENT_TYPE, "application/octet-stream").body(bytes.to_vec());
            let sent = expect(patch.send().await?, StatusCode::ACCEPTED, "PATCH upload")?;
            return self.finish_with(sent, Digest::of(bytes), Vec::new()).await;
        }
        self.finish(begun, bytes).await
    }

    async fn finish(&self, begun: Response, bytes: &[u8]) -> Result<(), Refused> {
        self.finish_with(begun, Digest::of(bytes), bytes.to_vec()).await
    }

    async fn finish_with(&self, begun: Response, digest: Digest, rest: Vec<u8>) -> Result<(), Refused> {
        let mut address = self.location(&begun)?;
        begun.bytes().await?;
        address.query_pairs_mut().append_pair("digest", &digest.to_string());
        let put = self.http.request(Method::PUT, address);
        let put = put.header(CONTENT_TYPE, "application/octet-stream").body(rest);
        done(expect(put.send().await?, StatusCode::CREATED, "PUT upload")?).await
    }

    fn location(&self, answer: &Response) -> Result<Url, Refused> {
        let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        self.at(location.ok_or(Refused::Nonsense { what: "location" })?)
    }

    /// Puts a manifest under a tag or its digest.
    pub async fn put(&self, repo: &str, reference: &str, of: (&MediaType, &[u8])) -> Result<(), Refused> {
        let (media_type, bytes) = of;
        let put = self.request(Method::PUT, &format!("/v2/{repo}/manifests/{reference}"))?;
        let put = put.header(CONTENT_TYPE, media_type.as_str()).body(bytes.to_vec());
        done(expect(put.send().await?, StatusCode::CREATED, "PUT manifest")?).await
    }

    /// Deletes a manifest by its digest; false if there was none.
    pub async fn delete(&self, repo: &str, digest: Digest) -> Result<bool, Refused> {
        let path = format!("/v2/{repo}/manifests/{digest}");
        let answer = self.request(Method::DELETE, &path)?.send().await?;
        let status = answer.status();
        answer.bytes().await?;
        match status {
            StatusCode::ACCEPTED => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            status => Err(Refused::Status { what: "DELETE manifest", status }),
        }
    }

    /// The bytes of a manifest by tag or digest.
    pub async fn manifest(&self, repo: &str, reference: &str) -> Result<Vec<u8>, Refused> {
        let get = self.request(Method::GET, &format!("/v2/{repo}/manifests/{reference}"))?;
        let answer = get.header(ACCEPT, ACCEPTED.join(", ")).send().await?;
        Ok(expect(answer, StatusCode::OK, "GET manifest")?.bytes().await?.to_vec())
    }

    /// The bytes of a blob.
    pub async fn blob(&self, repo: &str, digest: Digest) -> Result<Vec<u8>, Refused> {
        let answer = self.request(Method::GET, &format!("/v2/{repo}/blobs/{digest}"))?.send().await?;
        Ok(expect(answer, StatusCode::OK, "GET blob")?.bytes().await?.to_vec())
    }
}

/// Reads an answer to its end: the connection is free again.
async fn done(answer: Response) -> Result<(), Refused> {
    answer.bytes().await?;
    Ok(())
}

fn expect(answer: Response, wanted: StatusCode, what: &'static str) -> Result<Response, Refused> {
    match answer.status() {
        status if status == wanted => Ok(answer),
        status => Err(Refused::Status { what, status }),
    }
}
