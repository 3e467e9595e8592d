//! The HTTP clients under everything: who is trusted, and who one is.

use std::path::Path;

use reqwest::{Certificate, Client, ClientBuilder, Identity, redirect};

use super::address::Address;
use super::{Error, Options};

/// A client for the registry itself, and one for every other host: that one shows no certificate of ours.
pub(super) fn clients(options: &Options, address: &Address) -> Result<(Client, Client), Error> {
    install_provider();
    let extra = options.ca_file.as_deref().map(authorities).transpose()?.unwrap_or_default();
    let foreign = build(|| plain(options, address), &extra)?;
    let Some(identity) = identity(options)? else { return Ok((foreign.clone(), foreign)) };
    Ok((build(|| plain(options, address).identity(identity.clone()), &extra)?, foreign))
}

/// Redirects are followed by hand, where credentials can be dropped. Proxies come from the environment, but never
/// for this host: Go's clients, and so docker, do the same.
fn plain(options: &Options, address: &Address) -> ClientBuilder {
    let builder = Client::builder()
        .user_agent(concat!("clean-registry/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(options.timeout)
        .read_timeout(options.timeout)
        .timeout(options.timeout.saturating_mul(10));
    if address.is_loopback() { builder.no_proxy() } else { builder }
}

/// Without a provider no client can be built. Fails when another part of the program was first, with the same one.
pub(crate) fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Trusts the system's certificates and `extra`; where the system has none, Mozilla's in their place: without any,
/// no client can be built, not even one for plain HTTP.
pub(crate) fn build(plain: impl Fn() -> ClientBuilder, extra: &[Certificate]) -> Result<Client, Error> {
    install_provider();
    plain().tls_certs_merge(extra.iter().cloned()).build().or_else(|_| {
        let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
        let roots = roots.filter_map(|der| Certificate::from_der(der).ok());
        let builder = plain().tls_certs_only(roots.chain(extra.iter().cloned()));
        builder.build().map_err(|source| refused("TLS", source))
    })
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, Error> {
    let certificates = Certificate::from_pem_bundle(&read(path)?)
        .map_err(|source| refused(&path.to_string_lossy(), source))?;
    if certificates.is_empty() {
        return Err(refused(&path.to_string_lossy(), "there is no certificate in it"));
    }
    Ok(certificates)
}

fn identity(options: &Options) -> Result<Option<Identity>, Error> {
    let Some(path) = &options.client_cert else { return Ok(None) };
    let mut pem = read(path)?;
    if let Some(key) = &options.client_key {
        pem.push(b'\n');
        pem.extend(read(key)?);
    }
    Identity::from_pem(&pem).map(Some).map_err(|source| refused(&path.to_string_lossy(), source))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| refused(&path.to_string_lossy(), source))
}

fn refused(path: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Certificate { path: path.to_owned(), source: source.into() }
}
