//! A Redis of its own, which keeps nothing on disk.

use clean_registry::demo::server::Generation;

use super::server::Server;

/// A running Redis.
pub struct Redis {
    pub server: Server,
    password: Option<&'static str>,
}

impl Redis {
    /// Starts one that asks for this password, if any.
    pub fn start(password: Option<&'static str>) -> Self {
        let server = Server::start("CLEAN_REGISTRY_TEST_REDIS", &[], |port| {
            let port = port.to_string();
            let own = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
            let login = password.map(|password| ["--requirepass", password]);
            own.iter().chain(login.iter().flatten()).map(|&argument| argument.to_owned()).collect()
        });
        Self { server, password }
    }

    /// How a registry of this generation is configured to cache in it, with this password.
    pub fn section(&self, generation: Generation, password: Option<&str>) -> String {
        let address = format!("127.0.0.1:{}", self.server.port);
        let address = match generation {
            Generation::V2 => format!("addr: {address}"),
            Generation::V3 => format!("addrs: ['{address}']"),
        };
        let password = password.map(|password| format!("  password: {password}\n")).unwrap_or_default();
        format!("redis:\n  {address}\n  db: 1\n{password}")
    }

    /// All keys, in the database that the registry uses.
    pub async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.ask(redis::cmd("KEYS").arg("*")).await;
        keys.sort();
        keys
    }

    /// What a set holds.
    pub async fn members(&self, set: &str) -> Vec<String> {
        self.ask(redis::cmd("SMEMBERS").arg(set)).await
    }

    /// Forgets everything.
    pub async fn flush(&self) {
        self.ask::<()>(&redis::cmd("FLUSHALL")).await;
    }

    async fn ask<T: redis::FromRedisValue>(&self, question: &redis::Cmd) -> T {
        let login = self.password.map(|password| format!(":{password}@")).unwrap_or_default();
        let url = format!("redis://{login}127.0.0.1:{}/1", self.server.port);
        let client = redis::Client::open(url).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        question.query_async(&mut connection).await.unwrap()
    }
}
