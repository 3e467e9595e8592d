//! What a path asks for.

use std::collections::HashMap;

use clean_registry_core::layout::UploadId;
use clean_registry_core::name::{Digest, RepoName, Tag};
use hyper::Uri;

use super::behaviour::Delete;

/// One of the registry's endpoints.
///
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#endpoints>
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Base,
    Token,
    Catalog,
    Tags(RepoName),
    Manifest(RepoName, Reference),
    Blob(RepoName, Option<Digest>),
    Uploads(RepoName),
    Upload(RepoName, UploadId),
    Unknown,
}

/// The last part of a manifest's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    Tag(Tag),
    Digest(Digest),
    /// Looks like a digest and is none; the registries take it for a tag and trip over it.
    Malformed(String),
}

impl Route {
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/v2/" => return Self::Base,
            "/token" => return Self::Token,
            "/v2/_catalog" => return Self::Catalog,
            _ => {}
        }
        path.strip_prefix("/v2/").and_then(Self::in_repository).unwrap_or(Self::Unknown)
    }

    fn in_repository(path: &str) -> Option<Self> {
        if let Some(repo) = path.strip_suffix("/tags/list") {
            return Some(Self::Tags(repo.parse().ok()?));
        }
        if let Some(repo) = path.strip_suffix("/blobs/uploads/") {
            return Some(Self::Uploads(repo.parse().ok()?));
        }
        let (front, last) = path.rsplit_once('/')?;
        if let Some(repo) = front.strip_suffix("/blobs/uploads") {
            return Some(Self::Upload(repo.parse().ok()?, last.parse().ok()?));
        }
        if let Some(repo) = front.strip_suffix("/manifests") {
            return Some(Self::Manifest(repo.parse().ok()?, reference(last)?));
        }
        let repo = front.strip_suffix("/blobs")?.parse().ok()?;
        last.contains(':').then(|| Self::Blob(repo, last.parse().ok()))
    }

    /// The methods of this endpoint, as `Allow` lists them.
    pub(super) fn methods(&self, delete: Delete) -> &'static [&'static str] {
        match (self, delete) {
            (Self::Catalog | Self::Tags(_), _) => &["GET"],
            (Self::Manifest(..) | Self::Blob(..) | Self::Uploads(_) | Self::Upload(..), Delete::ReadOnly) => {
                &["GET", "HEAD"]
            }
            (Self::Manifest(..), _) => &["DELETE", "GET", "HEAD", "PUT"],
            (Self::Blob(..), _) => &["DELETE", "GET", "HEAD"],
            (Self::Uploads(_) | Self::Upload(..), _) => &["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"],
            (Self::Base | Self::Token | Self::Unknown, _) => &[],
        }
    }

    /// The repository it is about, if it is about one.
    pub(super) fn repository(&self) -> Option<&RepoName> {
        match self {
            Self::Tags(repo)
            | Self::Manifest(repo, _)
            | Self::Blob(repo, _)
            | Self::Uploads(repo)
            | Self::Upload(repo, _) => Some(repo),
            Self::Base | Self::Token | Self::Catalog | Self::Unknown => None,
        }
    }
}

fn reference(text: &str) -> Option<Reference> {
    if let Ok(tag) = text.parse() {
        return Some(Reference::Tag(tag));
    }
    if let Ok(digest) = text.parse() {
        return Some(Reference::Digest(digest));
    }
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || byte == b':';
    (text.contains(':') && text.bytes().all(harmless)).then(|| Reference::Malformed(text.to_owned()))
}

/// The parameters after the question mark, decoded.
pub(super) fn query(uri: &Uri) -> HashMap<String, String> {
    let whole = format!("http://registry/?{}", uri.query().unwrap_or_default());
    reqwest::Url::parse(&whole).map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart_from_their_end() {
        let repo = |name: &str| name.parse::<RepoName>().unwrap();
        let digest = Digest::of(b"");
        let id: UploadId = "01930b1e-7f3a-7cc1-8d3e-0123456789ab".parse().unwrap();
        for (path, route) in [
            ("/v2/".to_owned(), Route::Base),
            ("/v2".to_owned(), Route::Unknown),
            ("/v2/_catalog".to_owned(), Route::Catalog),
            ("/v2/a/b/tags/list".to_owned(), Route::Tags(repo("a/b"))),
            ("/v2/tags/list/tags/list".to_owned(), Route::Tags(repo("tags/list"))),
            (
                "/v2/a/manifests/v1".to_owned(),
                Route::Manifest(repo("a"), Reference::Tag("v1".parse().unwrap())),
            ),
            (format!("/v2/a/manifests/{digest}"), Route::Manifest(repo("a"), Reference::Digest(digest))),
            (
                "/v2/a/manifests/sha256:ab".to_owned(),
                Route::Manifest(repo("a"), Reference::Malformed("sha256:ab".into())),
            ),
            (format!("/v2/a/blobs/{digest}"), Route::Blob(repo("a"), Some(digest))),
            ("/v2/a/blobs/sha256:ab".to_owned(), Route::Blob(repo("a"), None)),
            ("/v2/a/blobs/uploads/".to_owned(), Route::Uploads(repo("a"))),
            (format!("/v2/a/blobs/uploads/{id}"), Route::Upload(repo("a"), id)),
            ("/v2/a/blobs/uploads/../../x".to_owned(), Route::Unknown),
            ("/v2/../manifests/v1".to_owned(), Route::Unknown),
            ("/v2/A/tags/list".to_owned(), Route::Unknown),
            ("/v2/a/manifests/-x".to_owned(), Route::Unknown),
            ("/v2/a/referrers/x".to_owned(), Route::Unknown),
        ] {
            assert_eq!(Route::of(&path), route, "{path}");
        }
    }
}
