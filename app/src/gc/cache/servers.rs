//! Which servers hold a registry's cache: one, the master that sentinels name, or every master of a cluster; and how one talks to
//! them, as the registry does.
//!
//! 2.8 knows one server; 3.x takes several addresses for a cluster, and for sentinels where a master is named.
//! <https://github.com/redis/go-redis/blob/v9.7.3/universal.go>

use std::path::Path;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo as _,
    RedisConnectionInfo, RedisError, TlsCertificates,
};

use super::CacheError;
use crate::registry::tls;
use crate::runtime::config::{Redis, RedisTls};
use crate::secret::Secret;

/// How long it may take to answer one question.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where it is when only a port is said, and the port when none is.
const HOST: &str = "localhost";
const PORT: u16 = 6379;

/// A server, not yet connected to.
pub(super) struct Server {
    client: Client,
    address: String,
}

impl Server {
    fn new(config: &Redis, address: &str, login: RedisConnectionInfo) -> Result<Self, CacheError> {
        let failed = |source| CacheError::Redis { address: address.to_owned(), source };
        let (host, port) = host_and_port(address);
        let host = host.to_owned();
        let client = match &config.tls {
            None => {
                let info = ConnectionAddr::Tcp(host, port).into_connection_info();
                info.and_then(|info| Client::open(info.set_redis_settings(login)))
            }
            Some(tls) => {
                tls::install_provider();
                let at = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
                let certificates = certificates(tls)?;
                let info = at.into_connection_info();
                info.and_then(|info| Client::build_with_tls(info.set_redis_settings(login), certificates))
            }
        };
        Ok(Self { client: client.map_err(failed)?, address: address.to_owned() })
    }

    pub(super) async fn connect(&self) -> Result<MultiplexedConnection, CacheError> {
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connected = self.client.get_multiplexed_async_connection_with_config(&patient).await;
        connected.map_err(|source| self.failed(source))
    }

    pub(super) fn failed(&self, source: RedisError) -> CacheError {
        CacheError::Redis { address: self.address.clone(), source }
    }
}

/// Those that hold it at this moment.
///
/// # Errors
/// When they cannot be told.
pub(super) async fn find(config: &Redis) -> Result<Vec<Server>, CacheError> {
    let user = (config.username.as_deref(), config.password.as_ref());
    if let Some(master) = &config.master {
        let address = ask_sentinels(config, master).await?;
        return Ok(vec![Server::new(config, &address, login(user, config.database))?]);
    }
    match &config.addresses[..] {
        [address] => Ok(vec![Server::new(config, address, login(user, config.database))?]),
        // A cluster has one database.
        _ => {
            let masters = ask_cluster(config, user).await?;
            masters.iter().map(|address| Server::new(config, address, login(user, 0))).collect()
        }
    }
}

/// The address of the master, as the first sentinel says that knows it.
async fn ask_sentinels(config: &Redis, master: &str) -> Result<String, CacheError> {
    let user = (config.sentinel_username.as_deref(), config.sentinel_password.as_ref());
    let question = redis::cmd("SENTINEL").arg("get-master-addr-by-name").arg(master).to_owned();
    let mut answer = Err(CacheError::NoMaster(master.to_owned()));
    for address in &config.addresses {
        let sentinel = Server::new(config, address, login(user, 0))?;
        let asked = async {
            let mut connection = sentinel.connect().await?;
            let told: Option<(String, u16)> =
                question.query_async(&mut connection).await.map_err(|source| sentinel.failed(source))?;
            Ok(told)
        };
        match asked.await {
            Ok(Some((host, port))) => return Ok(together(&host, port)),
            Ok(None) => {}
            Err(error) => answer = Err(error),
        }
    }
    answer
}

/// The addresses of the masters, as the first server says that answers.
async fn ask_cluster(
    config: &Redis,
    user: (Option<&str>, Option<&Secret>),
) -> Result<Vec<String>, CacheError> {
    let question = redis::cmd("CLUSTER").arg("NODES").to_owned();
    let mut answer = Err(CacheError::NoAddress);
    for address in &config.addresses {
        let server = Server::new(config, address, login(user, 0))?;
        let asked = async {
            let mut connection = server.connect().await?;
            let told: String =
                question.query_async(&mut connection).await.map_err(|source| server.failed(source))?;
            Ok(told)
        };
        match asked.await {
            Ok(told) => return masters(&told).ok_or_else(|| CacheError::Moving(address.clone())),
            Err(error) => answer = Err(error),
        }
    }
    answer
}

/// The masters among the lines of `CLUSTER NODES`; `None` while slots are moved from one to another.
/// <https://redis.io/docs/latest/commands/cluster-nodes/>
fn masters(nodes: &str) -> Option<Vec<String>> {
    let mut masters = Vec::new();
    for node in nodes.lines() {
        let words: Vec<&str> = node.split(' ').collect();
        let [_, address, flags, _, _, _, _, _, slots @ ..] = &words[..] else { continue };
        if slots.iter().any(|slot| slot.starts_with('[')) {
            return None;
        }
        if flags.split(',').any(|flag| flag == "master") && !slots.is_empty() {
            masters.push(address.split(['@', ',']).next().unwrap_or_default().to_owned());
        }
    }
    Some(masters)
}

fn login((username, password): (Option<&str>, Option<&Secret>), database: u32) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default().set_db(i64::from(database));
    if let Some(username) = username {
        login = login.set_username(username);
    }
    if let Some(password) = password {
        login = login.set_password(password.expose());
    }
    login
}

/// What secures the connection. Without authorities of its own, those of this host are trusted.
fn certificates(tls: &RedisTls) -> Result<TlsCertificates, CacheError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| CacheError::Certificate { path: path.to_owned(), source })
    };
    let client_tls = match &tls.client {
        Some((certificate, key)) => {
            Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
        }
        None => None,
    };
    let authorities = tls.authorities.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let root_cert = (!authorities.is_empty()).then(|| authorities.join(&b'\n'));
    Ok(TlsCertificates { client_tls, root_cert })
}

fn together(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn the_masters_of_a_cluster_are_those_with_slots() {
        let nodes = "\
a 10.0.0.1:7000@17000,one myself,master - 0 0 1 connected 0-5460
b 10.0.0.2:7000@17000 slave a 0 1 1 connected
c 10.0.0.3:7000@17000 master - 0 1 2 connected 5461-10922 10923-16383
d 10.0.0.4:7000@17000 master - 0 1 3 connected
";
        assert_eq!(masters(nodes).unwrap(), ["10.0.0.1:7000", "10.0.0.3:7000"]);
        let moving = "a 10.0.0.1:7000@17000 master - 0 0 1 connected 0-16383 [93->-b]";
        assert_eq!(masters(moving), None);
        assert_eq!(together("::1", 7), "[::1]:7");
    }
}
