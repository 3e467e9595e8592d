//! The registry's cache of blob descriptors in Redis: it survives restarts, and what it still tells of a collected blob breaks the
//! next push (FACTS section 4.3).
//!
//! Keys, of 2.8 and 3.x alike: `blobs::<digest>` and `repository::<name>::blobs::<digest>` are hashes, `repository::<name>::blobs` is a
//! set of digests. <https://github.com/distribution/distribution/blob/v3.1.1/registry/storage/cache/redis/redis.go>

use std::collections::BTreeSet;
use std::time::Duration;

use clean_registry_core::gc::Garbage;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncCommands as _, AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo as _, RedisError,
};
use thiserror::Error;

use crate::runtime::config::Redis;

/// Keys that are asked for, or removed, at once.
const BATCH: usize = 1000;
/// How long it may take to answer one question.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where it is when only a port is said, and the port when none is.
const HOST: &str = "localhost";
const PORT: u16 = 6379;

/// Why the cache cannot be told to forget.
#[derive(Debug, Error)]
pub enum CacheError {
    /// A kind of Redis that is not spoken to.
    #[error("the registry's cache is in Redis {0}, which is not supported")]
    Unsupported(&'static str),
    /// It is configured, and nothing says where it is.
    #[error("the registry's configuration names no Redis for its cache")]
    NoAddress,
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
            Self::Unsupported(_) => {
                "nothing was removed; stop the registry, collect its storage alone (--storage), and flush Redis before it starts again"
            }
            Self::NoAddress => {
                "nothing was removed; the registry would not start with this configuration either"
            }
            Self::Redis { .. } => {
                "nothing was removed; the registry's cache must be reachable from here, or the next push would be broken by what it \
                 still tells"
            }
        }
    }
}

/// A cache that can be told to forget.
#[derive(Debug, Clone)]
pub struct RedisCache {
    client: Client,
    address: String,
}

impl RedisCache {
    /// Connects, so that it is known to answer before anything is removed.
    ///
    /// # Errors
    /// When it does not answer, or is of a kind that is not spoken to.
    pub async fn connect(config: Option<&Redis>) -> Result<Self, CacheError> {
        let config = config.ok_or(CacheError::NoAddress)?;
        if config.master.is_some() {
            return Err(CacheError::Unsupported("behind sentinels"));
        }
        if config.tls {
            return Err(CacheError::Unsupported("over TLS"));
        }
        let [address] = &config.addresses[..] else { return Err(CacheError::Unsupported("in a cluster")) };
        let failed = |source| CacheError::Redis { address: address.clone(), source };
        let client = Client::open(info(config, address).map_err(failed)?).map_err(failed)?;
        let cache = Self { client, address: address.clone() };
        cache.connection().await?;
        Ok(cache)
    }

    /// Makes it forget what is gone, in every repository. What it knows of all else stays.
    ///
    /// # Errors
    /// When it does not answer: it may still know some of it.
    pub async fn forget(&self, gone: &Gone) -> Result<(), CacheError> {
        let failed = |source| CacheError::Redis { address: self.address.clone(), source };
        let mut connection = self.connection().await?;
        let mut cursor = 0_u64;
        loop {
            let scan = redis::cmd("SCAN").arg(cursor).arg("COUNT").arg(BATCH).to_owned();
            let (next, keys): (u64, Vec<String>) = scan.query_async(&mut connection).await.map_err(failed)?;
            let doomed: Vec<&String> = keys.iter().filter(|key| gone.is_about(key)).collect();
            if !doomed.is_empty() {
                connection.del::<_, ()>(doomed).await.map_err(failed)?;
            }
            for set in keys.iter().filter(|key| is_set(key) && !gone.is_about(key)) {
                forget_members(&mut connection, set, gone).await.map_err(failed)?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    async fn connection(&self) -> Result<MultiplexedConnection, CacheError> {
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connected = self.client.get_multiplexed_async_connection_with_config(&patient).await;
        connected.map_err(|source| CacheError::Redis { address: self.address.clone(), source })
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

/// A host and a port as Go takes them: `host:port`, `[::1]:port`, `:port`, `host`.
fn host_and_port(address: &str) -> (&str, u16) {
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().unwrap_or(PORT)),
        None => (address, PORT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (if host.is_empty() { HOST } else { host }, port)
}

fn info(config: &Redis, address: &str) -> Result<ConnectionInfo, RedisError> {
    let (host, port) = host_and_port(address);
    let info = ConnectionAddr::Tcp(host.to_owned(), port).into_connection_info()?;
    let mut login = redis::RedisConnectionInfo::default().set_db(i64::from(config.database));
    if let Some(username) = &config.username {
        login = login.set_username(username);
    }
    if let Some(password) = &config.password {
        login = login.set_password(password.expose());
    }
    Ok(info.set_redis_settings(login))
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

    #[test]
    fn an_address_is_read_as_the_registry_reads_it() {
        for (address, read) in [
            ("redis:6380", ("redis", 6380)),
            ("redis", ("redis", 6379)),
            (":6380", ("localhost", 6380)),
            ("[::1]:6380", ("::1", 6380)),
        ] {
            assert_eq!(host_and_port(address), read);
        }
    }
}
