//! The registry's cache of blob descriptors in Redis: it survives restarts, and what it still tells of a collected blob breaks the
//! next push (FACTS section 4.3).
//!
//! Keys, of 2.8 and 3.x alike: `blobs::<digest>` and `repository::<name>::blobs::<digest>` are hashes, `repository::<name>::blobs` is a
//! set of digests. <https://github.com/distribution/distribution/blob/v3.1.1/registry/storage/cache/redis/redis.go>

use std::collections::BTreeSet;
use std::path::PathBuf;

use clean_registry_core::gc::Garbage;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, RedisError};
use thiserror::Error;

use crate::runtime::config::Redis;

mod servers;

/// Keys that are asked for, or removed, at once.
const BATCH: usize = 1000;

/// Why the cache cannot be told to forget.
#[derive(Debug, Error)]
pub enum CacheError {
    /// It is configured, and nothing says where it is.
    #[error("the registry's configuration names no Redis for its cache")]
    NoAddress,
    /// What TLS with it is secured by cannot be read.
    #[error("the registry's cache in Redis: {}: {source}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No sentinel knows it.
    #[error("the registry's cache in Redis: none of the sentinels knows a master {0}")]
    NoMaster(String),
    /// Keys are on their way from one server to another, and may be seen on neither.
    #[error("the registry's cache in Redis: the cluster at {0} is moving keys")]
    Moving(String),
    /// It does not answer, or not as it should.
    #[error("the registry's cache in Redis at {address}: {source}")]
    Redis {
        /// Where.
        address: String,
        /// What happened.
        source: RedisError,
    },
}

impl CacheError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoAddress => {
                "nothing was removed; the registry would not start with this configuration either"
            }
            Self::Certificate { .. } => {
                "nothing was removed; the files that redis.tls of the registry's configuration names are read on this host"
            }
            Self::Moving(_) => "nothing was removed; run it again when the cluster has been resharded",
            Self::NoMaster(_) | Self::Redis { .. } => {
                "nothing was removed; the registry's cache must be reachable from here, or the next push would be broken by what it \
                 still tells"
            }
        }
    }
}

/// A cache that can be told to forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisCache(Redis);

impl RedisCache {
    /// Connects, so that it is known to answer before anything is removed.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn connect(config: Option<&Redis>) -> Result<Self, CacheError> {
        let config = config.ok_or(CacheError::NoAddress)?;
        for server in servers::find(config).await? {
            server.connect().await?;
        }
        Ok(Self(config.clone()))
    }

    /// Makes it forget what is gone, in every repository. What it knows of all else stays.
    ///
    /// # Errors
    /// When it does not answer: it may still know some of it.
    pub async fn forget(&self, gone: &Gone) -> Result<(), CacheError> {
        // Which servers it is may have changed since.
        for server in servers::find(&self.0).await? {
            let mut connection = server.connect().await?;
            let forgotten = forget_at(&mut connection, gone).await;
            forgotten.map_err(|source| server.failed(source))?;
        }
        Ok(())
    }
}

async fn forget_at(connection: &mut MultiplexedConnection, gone: &Gone) -> Result<(), RedisError> {
    let mut cursor = 0_u64;
    loop {
        let scan = redis::cmd("SCAN").arg(cursor).arg("COUNT").arg(BATCH).to_owned();
        let (next, keys): (u64, Vec<String>) = scan.query_async(connection).await?;
        let (doomed, others): (Vec<&String>, Vec<_>) = keys.iter().partition(|key| gone.is_about(key));
        // One by one: a server of a cluster takes no command about several keys.
        let mut removal = redis::pipe();
        for key in &doomed {
            removal.del(*key).ignore();
        }
        if !doomed.is_empty() {
            removal.query_async::<()>(connection).await?;
        }
        for set in others.into_iter().filter(|key| is_set(key)) {
            forget_members(connection, set, gone).await?;
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

/// What a cache must not tell of any more. To forget more than is gone does no harm.
#[derive(Debug, Default)]
pub struct Gone {
    /// Blobs, manifests among them, and what links to them are named by.
    digests: BTreeSet<String>,
    /// Repositories of which every link went, be its blob needed elsewhere or not.
    repositories: BTreeSet<String>,
}

impl Gone {
    /// All of what is garbage. A manifest or a link is forgotten even if the blob stays, which another repository may need: what
    /// the cache tells of one repository makes the registry accept an image there that cannot be pulled.
    #[must_use]
    pub fn of(garbage: &Garbage) -> Self {
        let blobs = garbage.blobs.iter().map(|blob| blob.digest.to_string());
        let manifests = garbage.manifests.iter().map(|manifest| manifest.digest.to_string());
        let links = garbage.links.iter().map(|link| link.digest.clone());
        Self {
            digests: blobs.chain(manifests).chain(links).collect(),
            repositories: garbage.repositories.iter().map(ToString::to_string).collect(),
        }
    }

    fn has(&self, digest: &str) -> bool {
        // What a name of another algorithm stands for only the cache could tell: it is asked of the storage anew.
        self.digests.contains(digest) || !digest.starts_with("sha256:")
    }

    /// Whether a key is to go as a whole: `blobs::<digest>` or `repository::<name>::blobs::<digest>` of what is gone, and
    /// everything of a repository that is.
    fn is_about(&self, key: &str) -> bool {
        match key.split("::").collect::<Vec<_>>()[..] {
            ["blobs", digest] => self.has(digest),
            ["repository", name, "blobs"] => self.repositories.contains(name),
            ["repository", name, "blobs", digest] => self.repositories.contains(name) || self.has(digest),
            _ => false,
        }
    }
}

async fn forget_members(
    connection: &mut MultiplexedConnection,
    set: &str,
    gone: &Gone,
) -> Result<(), RedisError> {
    let mut cursor = 0_u64;
    loop {
        let scan = redis::cmd("SSCAN").arg(set).arg(cursor).arg("COUNT").arg(BATCH).to_owned();
        let (next, members): (u64, Vec<String>) = scan.query_async(connection).await?;
        let doomed: Vec<String> = members.into_iter().filter(|digest| gone.has(digest)).collect();
        if !doomed.is_empty() {
            connection.srem::<_, _, ()>(set, doomed).await?;
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

/// `repository::<name>::blobs`
fn is_set(key: &str) -> bool {
    matches!(key.split("::").collect::<Vec<_>>()[..], ["repository", _, "blobs"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_of_the_cache_that_tell_of_what_is_gone_go() {
        let digests = BTreeSet::from(["sha256:aa".to_owned()]);
        let gone = Gone { digests, repositories: BTreeSet::from(["old/app".to_owned()]) };
        for key in [
            "blobs::sha256:aa",
            "repository::team/app::blobs::sha256:aa",
            "repository::old/app::blobs",
            "repository::old/app::blobs::sha256:bb",
            // It may stand for what is gone.
            "blobs::sha512:cc",
        ] {
            assert!(gone.is_about(key), "{key}");
        }
        for key in [
            "blobs::sha256:bb",
            "repository::team/app::blobs",
            "repository::team/app::blobs::sha256:bb",
            "other::sha256:aa",
            "sha256:aa",
            "blobs",
        ] {
            assert!(!gone.is_about(key), "{key}");
        }
        assert!(is_set("repository::team/app::blobs") && !is_set("blobs") && !is_set("blobs::sha256:aa"));
    }
}
