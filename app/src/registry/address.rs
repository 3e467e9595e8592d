//! Where a registry is: its URL, taken apart once.

use reqwest::Url;

use super::{Credentials, Error};
use crate::secret::Secret;

/// The address of a registry, without credentials.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// Scheme, host, port and prefix; the path ends in `/`.
    base: Url,
    /// `host[:port][/prefix]`: what people call the registry.
    name: String,
}

impl Address {
    /// Reads `text`; `https` when it names no scheme. A user and password in it are returned apart.
    pub(super) fn parse(text: &str) -> Result<(Self, Credentials), Error> {
        let refuse = |reason: &str| Error::Address { reason: reason.to_owned() };
        let text = text.trim();
        let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let mut base = Url::parse(&full).map_err(|error| refuse(&error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none_or(str::is_empty) {
            return Err(refuse("expected http:// or https:// and a host"));
        }
        // What people call Docker Hub is not where its registry answers.
        if matches!(base.host_str(), Some("docker.io" | "index.docker.io")) {
            base.set_host(Some("registry-1.docker.io")).map_err(|error| refuse(&error.to_string()))?;
        }
        let credentials = take_credentials(&mut base);
        base.set_query(None);
        base.set_fragment(None);
        let path = base.path().trim_end_matches('/');
        let prefix = path.strip_suffix("/v2").unwrap_or(path).trim_end_matches('/').to_owned();
        base.set_path(&format!("{prefix}/"));
        let host = base.host_str().unwrap_or_default();
        let port = base.port().map(|port| format!(":{port}")).unwrap_or_default();
        let name = format!("{host}{port}{prefix}");
        Ok((Self { base, name }, credentials))
    }

    /// `host[:port][/prefix]`: what people call the registry.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The host alone.
    pub(super) fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// The URL of `path` beside `/v2/`, where some vendors have an API of their own. What of it is not plain is escaped
    /// by the caller.
    pub(super) fn beside(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path()));
        url
    }

    /// The URL of `path` below `/v2/`.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}v2/{path}", self.base.path()));
        url
    }

    /// Whether `url` has the registry's scheme, host and port: only there do credentials go.
    pub(super) fn is_origin_of(&self, url: &Url) -> bool {
        self.base.origin() == url.origin()
    }

    /// Whether what is sent to the registry is encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// Whether the registry is on this host, where no proxy leads.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.base.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let loopback = host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        loopback || host == "localhost" || host.ends_with(".localhost")
    }
}

fn take_credentials(url: &mut Url) -> Credentials {
    let user = decode_percent(url.username());
    let password = url.password().map(decode_percent).unwrap_or_default();
    // Both can only fail for URLs without a host, and this one has one.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if user.is_empty() && password.is_empty() {
        Credentials::Anonymous
    } else {
        Credentials::Basic { user, password: Secret::new(password) }
    }
}

fn decode_percent(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = escaped.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `url` for people and logs: no credentials, and no query but the paging of listings, for the queries of signed
/// storage URLs are credentials too.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    if !url.query_pairs().all(|(key, _)| matches!(&*key, "n" | "last")) {
        url.set_query(None);
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_people_write_it() {
        for (text, name, url) in [
            ("registry.example", "registry.example", "https://registry.example/v2/x"),
            ("http://127.0.0.1:5001", "127.0.0.1:5001", "http://127.0.0.1:5001/v2/x"),
            ("https://a.example:443/v2/", "a.example", "https://a.example/v2/x"),
            ("a.example:5000/pre/fix/", "a.example:5000/pre/fix", "https://a.example:5000/pre/fix/v2/x"),
            ("http://[::1]:5000", "[::1]:5000", "http://[::1]:5000/v2/x"),
            ("docker.io", "registry-1.docker.io", "https://registry-1.docker.io/v2/x"),
        ] {
            let (address, _) = Address::parse(text).unwrap();
            assert_eq!((address.name(), address.url("x").as_str()), (name, url), "{text}");
        }
        for bad in ["", "ftp://a.example", "https://", "http://a b/"] {
            assert!(matches!(Address::parse(bad), Err(Error::Address { .. })), "{bad:?}");
        }
    }

    #[test]
    fn credentials_are_taken_out_of_the_address() {
        let (address, credentials) = Address::parse("https://al%40ice:p%3Ass%zz+@a.example/").unwrap();
        let Credentials::Basic { user, password } = credentials else { panic!("no credentials found") };
        assert_eq!((user.as_str(), password.expose()), ("al@ice", "p:ss%zz+"));
        assert_eq!(address.url("").as_str(), "https://a.example/v2/");
    }

    #[test]
    fn a_url_is_shown_without_secrets() {
        let show = |text: &str| shown(&Url::parse(text).unwrap());
        assert_eq!(show("https://u:p@s3.example/k?X-Amz-Signature=abc"), "https://s3.example/k");
        assert_eq!(
            show("https://a.example/v2/_catalog?n=1&last=b"),
            "https://a.example/v2/_catalog?n=1&last=b"
        );
    }

    #[test]
    fn loopback_is_recognised() {
        for (text, loopback) in [
            ("http://127.0.0.1:5", true),
            ("http://[::1]", true),
            ("http://localhost:5", true),
            ("http://localhost.example", false),
        ] {
            assert_eq!(Address::parse(text).unwrap().0.is_loopback(), loopback, "{text}");
        }
    }
}
