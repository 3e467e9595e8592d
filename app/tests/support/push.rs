//! A client that pushes what the demo's builder made to any registry, and proves that an image still pulls.

use clean_registry::demo::builder::Built;
use clean_registry_core::name::{Digest, MediaType};
use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;

/// All four types: without them a registry may say that something is absent, or serve another (FACTS section 2).
pub const ACCEPTED: [&str; 4] =
    [MediaType::OCI_MANIFEST, MediaType::OCI_INDEX, MediaType::DOCKER_MANIFEST, MediaType::DOCKER_LIST];

/// A client of one registry.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    login: Option<(String, String)>,
}

impl Client {
    /// A client of the registry at `url`, without a login.
    pub fn new(url: &str) -> Self {
        // Another test of the same process may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A kept connection does not outlive a registry that is restarted.
        let http = reqwest::Client::builder().tls_certs_only([]).pool_max_idle_per_host(0).build().unwrap();
        Self { http, url: url.parse().unwrap(), login: None }
    }

    /// The same with a name and a password.
    pub fn login(self, user: &str, password: &str) -> Self {
        Self { login: Some((user.to_owned(), password.to_owned())), ..self }
    }

    /// A request to a path of the registry, or to a whole address it gave.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, self.url.join(path).unwrap());
        match &self.login {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        }
    }

    /// GET, with everything accepted.
    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).header(ACCEPT, ACCEPTED.join(", ")).send().await.unwrap()
    }

    /// DELETE of a tag or a digest.
    pub async fn delete(&self, repo: &str, reference: &str) -> StatusCode {
        let path = format!("/v2/{repo}/manifests/{reference}");
        self.request(Method::DELETE, &path).send().await.unwrap().status()
    }

    /// The tags of a repository, sorted; none where the registry says `null` or 404.
    pub async fn tags(&self, repo: &str) -> Vec<String> {
        let document: Value = self.get(&format!("/v2/{repo}/tags/list")).await.json().await.unwrap();
        let tags = document["tags"].as_array().into_iter().flatten();
        let mut tags: Vec<String> = tags.map(|tag| tag.as_str().unwrap().to_owned()).collect();
        tags.sort();
        tags
    }

    /// Uploads a blob with POST and PUT.
    pub async fn blob(&self, repo: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let begun = self.request(Method::POST, &format!("/v2/{repo}/blobs/uploads/")).send().await.unwrap();
        assert_eq!(begun.status(), StatusCode::ACCEPTED, "beginning an upload to {repo}");
        let location = begun.headers()[LOCATION].to_str().unwrap();
        let mut address = self.url.join(location).unwrap();
        address.query_pairs_mut().append_pair("digest", &digest.to_string());
        let put =
            self.request(Method::PUT, address.as_str()).header(CONTENT_TYPE, "application/octet-stream");
        let done = put.body(bytes.to_vec()).send().await.unwrap();
        assert_eq!(done.status(), StatusCode::CREATED, "uploading {digest} to {repo}");
        digest
    }

    /// Puts the bytes of any manifest under any type, and says what the registry answered.
    pub async fn manifest(&self, repo: &str, reference: &str, media_type: &str, bytes: &[u8]) -> Response {
        let put = self.request(Method::PUT, &format!("/v2/{repo}/manifests/{reference}"));
        put.header(CONTENT_TYPE, media_type).body(bytes.to_vec()).send().await.unwrap()
    }

    /// Pushes what was built, everything it needs first, under its digest alone.
    pub async fn push(&self, repo: &str, built: &Built) -> Digest {
        let digest = built.digest();
        self.push_as(repo, &digest.to_string(), built).await;
        digest
    }

    /// The same under a tag.
    pub async fn push_as(&self, repo: &str, reference: &str, built: &Built) {
        for child in &built.children {
            Box::pin(self.push(repo, child)).await;
        }
        for blob in &built.blobs {
            self.blob(repo, blob).await;
        }
        let answer = self.manifest(repo, reference, built.media_type.as_str(), &built.bytes).await;
        let status = answer.status();
        assert_eq!(status, StatusCode::CREATED, "{repo}:{reference}: {}", answer.text().await.unwrap());
    }

    /// Fetches an image and everything it needs and compares all digests: the number of objects fetched, or what is
    /// missing or wrong.
    pub async fn pull_whole(&self, repo: &str, reference: &str) -> Result<usize, String> {
        let (media_type, bytes) = self.fetch(&format!("/v2/{repo}/manifests/{reference}")).await?;
        if let Ok(digest) = reference.parse::<Digest>() {
            verify(&digest, &bytes)?;
        }
        let manifest: Value =
            serde_json::from_slice(&bytes).map_err(|error| format!("{reference}: {error}"))?;
        let mut fetched = 1;
        for child in list(&manifest, "manifests") {
            let is_manifest =
                child["mediaType"].as_str().is_none_or(|text| MediaType::new(text).is_manifest());
            let digest = digest_of(child)?;
            fetched += if is_manifest {
                Box::pin(self.pull_whole(repo, &digest.to_string())).await?
            } else {
                self.pull_blob(repo, child).await?
            };
        }
        for blob in manifest.get("config").into_iter().chain(list(&manifest, "layers")) {
            fetched += self.pull_blob(repo, blob).await?;
        }
        // A list served to a client without a taste for lists would look like its child.
        let expected =
            if manifest.get("manifests").is_some() { media_type.is_index() } else { media_type.is_image() };
        if expected { Ok(fetched) } else { Err(format!("{reference} was served as {media_type}")) }
    }

    async fn pull_blob(&self, repo: &str, descriptor: &Value) -> Result<usize, String> {
        let digest = digest_of(descriptor)?;
        let (_, bytes) = self.fetch(&format!("/v2/{repo}/blobs/{digest}")).await?;
        verify(&digest, &bytes)?;
        Ok(1)
    }

    async fn fetch(&self, path: &str) -> Result<(MediaType, Vec<u8>), String> {
        let answer = self.get(path).await;
        if answer.status() != StatusCode::OK {
            return Err(format!("{path}: {}", answer.status()));
        }
        let media_type = MediaType::new(answer.headers()[CONTENT_TYPE].to_str().unwrap());
        let bytes = answer.bytes().await.map_err(|error| format!("{path}: {error}"))?;
        Ok((media_type, bytes.to_vec()))
    }
}

fn verify(digest: &Digest, bytes: &[u8]) -> Result<(), String> {
    let found = Digest::of(bytes);
    if found == *digest { Ok(()) } else { Err(format!("{digest} has the bytes of {found}")) }
}

fn digest_of(descriptor: &Value) -> Result<Digest, String> {
    let digest = descriptor["digest"].as_str().and_then(|text| text.parse().ok());
    digest.ok_or_else(|| format!("no digest in {descriptor}"))
}

fn list<'a>(manifest: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    manifest[field].as_array().into_iter().flatten()
}
