//! The registry's cache of blob descriptors in Redis: it survives restarts, and what it still tells of a collected blob breaks the
//! next push (FACTS section 4.3).
//!
//! Keys, of 2.8 and 3.x alike: `blobs::<digest>` and `repository::<name>::blobs::<digest>` are hashes, `repository::<name>::blobs` is a
//! set of digests. <https://github.com/distribution/distribution/blob/v3.1.1/registry/storage/cache/redis/redis.go>

use std::collections::BTreeSet;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncCommands as _, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisError,
};
use thiserror::Error;

use crate::runtime::config::Redis;

/// Keys that are asked for, or removed, at once.
const BATCH: usize = 1000;

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

    /// Makes it forget these blobs in every repository. What it knows of all others stays.
    ///
    /// # Errors
    /// When it does not answer: it may still know some of them.
    pub async fn forget(&self, digests: &BTreeSet<String>) -> Result<(), CacheError> {
        let failed = |source| CacheError::Redis { address: self.address.clone(), source };
        let mut connection = self.connection().await?;
        let mut cursor = 0_u64;
        loop {
            let scan = redis::cmd("SCAN").arg(cursor).arg("COUNT").arg(BATCH).to_owned();
            let (next, keys): (u64, Vec<String>) = scan.query_async(&mut connection).await.map_err(failed)?;
            let doomed: Vec<&String> = keys.iter().filter(|key| is_about(key, digests)).collect();
            if !doomed.is_empty() {
                connection.del::<_, ()>(doomed).await.map_err(failed)?;
            }
            for set in keys.iter().filter(|key| is_set(key)) {
                forget_members(&mut connection, set, digests).await.map_err(failed)?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    async fn connection(&self) -> Result<MultiplexedConnection, CacheError> {
        let connected = self.client.get_multiplexed_async_connection().await;
        connected.map_err(|source| CacheError::Redis { address: self.address.clone(), source })
    }
}

async fn forget_members(
    connection: &mut MultiplexedConnection,
    set: &str,
    digests: &BTreeSet<String>,
) -> Result<(), RedisError> {
    let all: Vec<&String> = digests.iter().collect();
    for some in all.chunks(BATCH) {
        connection.srem::<_, _, ()>(set, some).await?;
    }
    Ok(())
}

/// `blobs::<digest>` or `repository::<name>::blobs::<digest>` of one of these.
fn is_about(key: &str, digests: &BTreeSet<String>) -> bool {
    let is_ours = key.starts_with("blobs::") || key.starts_with("repository::");
    is_ours && key.rsplit_once("::").is_some_and(|(_, digest)| digests.contains(digest))
}

/// `repository::<name>::blobs`
fn is_set(key: &str) -> bool {
    key.starts_with("repository::") && key.ends_with("::blobs")
}

fn info(config: &Redis, address: &str) -> Result<ConnectionInfo, RedisError> {
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().unwrap_or(6379)),
        None => (address, 6379),
    };
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
    fn only_keys_of_the_cache_that_tell_of_a_collected_blob_go() {
        let digests = BTreeSet::from(["sha256:aa".to_owned()]);
        for key in ["blobs::sha256:aa", "repository::team/app::blobs::sha256:aa"] {
            assert!(is_about(key, &digests), "{key}");
        }
        for key in ["blobs::sha256:bb", "repository::team/app::blobs", "other::sha256:aa", "sha256:aa"] {
            assert!(!is_about(key, &digests), "{key}");
        }
        assert!(is_set("repository::team/app::blobs") && !is_set("blobs") && !is_set("blobs::sha256:aa"));
    }
}
