//! Where a registry stores, as its own configuration says it: the section of its storage driver, of Distribution 2.8 and 3.x.
//!
//! <https://distribution.github.io/distribution/storage-drivers/>

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};
use thiserror::Error;

use super::{Local, Storage, StorageError};
use crate::secret::Secret;

/// Where the `filesystem` driver stores when nothing is said.
const DEFAULT_DIRECTORY: &str = "/var/lib/registry";
/// Azure's public cloud.
const DEFAULT_REALM: &str = "core.windows.net";
/// What a store that is not Amazon's takes for its region.
const ANY_REGION: &str = "us-east-1";

/// A storage, not opened yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// A directory: the driver `filesystem`.
    Local {
        /// The root directory.
        directory: PathBuf,
    },
    /// A bucket of Amazon S3, or of what speaks like it: the drivers `s3` and `s3aws`.
    S3(Box<S3>),
    /// A bucket of Google Cloud Storage: the driver `gcs`.
    Gcs(Gcs),
    /// A container of Azure Blob Storage: the driver `azure`.
    Azure(Box<Azure>),
}

/// A bucket of S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3 {
    /// The bucket.
    pub bucket: String,
    /// What every key begins with: without a `/` on either side, empty if nothing.
    pub root: String,
    /// The region that requests are signed for.
    pub region: String,
    /// Where the store is, with its scheme; `None` for Amazon's own.
    pub endpoint: Option<String>,
    /// How the bucket is named.
    pub style: Style,
    /// The scheme where an endpoint tells none: not `secure` in the registry's configuration.
    pub plain_http: bool,
    /// `skipverify`.
    pub skip_verify: bool,
    /// Amazon's endpoints that speak IPv6 too.
    pub dual_stack: bool,
    /// A key, and its secret; by Amazon's chain if there is none.
    pub key: Option<(String, Secret)>,
    /// The token of a key that is good for a while.
    pub session_token: Option<Secret>,
    /// How what is written is encrypted.
    pub encryption: Encryption,
}

/// How a bucket is named in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// First in the path.
    Path,
    /// First in the host's name.
    VirtualHost,
}

/// How a bucket's files are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// As the bucket has it.
    Bucket,
    /// By the store's own key.
    Store,
    /// By a key of the key service; by its id, or the default one.
    KeyService(Option<String>),
}

/// A bucket of Google Cloud Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gcs {
    /// The bucket.
    pub bucket: String,
    /// As [`S3::root`].
    pub root: String,
    /// By the chain of application default credentials if there is none.
    pub login: GcsLogin,
}

/// How one logs in to Google Cloud Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GcsLogin {
    /// As every program on this host does.
    Default,
    /// With the key in this file.
    File(String),
    /// With this key, in JSON.
    Key(Secret),
}

/// A container of Azure Blob Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Azure {
    /// The account.
    pub account: String,
    /// The container.
    pub container: String,
    /// As [`S3::root`].
    pub root: String,
    /// Where the account is, with its scheme.
    pub endpoint: String,
    /// `skipverify`.
    pub skip_verify: bool,
    /// How one logs in.
    pub login: AzureLogin,
}

/// How one logs in to Azure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AzureLogin {
    /// As every program on this host does: the environment, a workload identity, a managed identity.
    Default,
    /// With the account's key.
    Key(Secret),
    /// As an application.
    Client {
        /// Its tenant.
        tenant: String,
        /// Its id.
        id: String,
        /// Its secret.
        secret: Secret,
    },
}

impl std::fmt::Display for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local { directory } => write!(f, "{}", directory.display()),
            Self::S3(s3) => write!(f, "s3://{}/{}", s3.bucket, s3.root),
            Self::Gcs(gcs) => write!(f, "gs://{}/{}", gcs.bucket, gcs.root),
            Self::Azure(azure) => write!(f, "{}/{}/{}", azure.endpoint, azure.container, azure.root),
        }
    }
}

/// Why a storage cannot be opened.
#[derive(Debug, Error)]
pub enum SpecError {
    /// A driver that only some registries have.
    #[error("storage driver {0} is not supported")]
    Driver(String),
    /// The registry keeps everything in its own memory.
    #[error("storage driver inmemory cannot be read from outside the registry")]
    InMemory,
    /// Something that the driver cannot do without.
    #[error("the storage driver {driver} has no {key}")]
    Missing {
        /// The driver.
        driver: String,
        /// The key of its section.
        key: &'static str,
    },
    /// Something that is not what it must be. Its value may be a secret, and is not told.
    #[error("{key} of the storage driver {driver} is not {expected}")]
    Wrong {
        /// The driver.
        driver: String,
        /// The key of its section.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A root directory whose keys cannot be named.
    #[error(
        "the root directory {0:?} is not supported: no part of it may be empty, . or .., or have spaces around it"
    )]
    Root(String),
    /// A way of asking that the registry's driver knows and this program does not.
    #[error("{0}")]
    Unsupported(&'static str),
    /// This program was built without object stores.
    #[error("this clean-registry was built without object stores")]
    NotBuilt,
    /// It does not look as if it could work.
    #[error("{0}")]
    Client(String),
    /// The directory.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl SpecError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Driver(_) => Some("the drivers filesystem, s3, gcs and azure are"),
            Self::NotBuilt => Some("take the released program, or build with the feature cloud"),
            Self::Storage(error) => error.hint(),
            _ => None,
        }
    }
}

impl Spec {
    /// Reads the section of `driver`, after the variables over it.
    ///
    /// # Errors
    /// The driver is not known, or lacks what it needs.
    pub fn of(driver: &str, parameters: &Map<String, Value>) -> Result<Self, SpecError> {
        let section = Section { driver, parameters };
        match driver {
            "filesystem" => {
                let directory = section.text("rootdirectory").unwrap_or_else(|| DEFAULT_DIRECTORY.to_owned());
                Ok(Self::Local { directory: directory.into() })
            }
            "s3" | "s3aws" => Ok(Self::S3(Box::new(s3(&section)?))),
            "gcs" => Ok(Self::Gcs(gcs(&section)?)),
            "azure" => Ok(Self::Azure(Box::new(azure(&section)?))),
            "inmemory" => Err(SpecError::InMemory),
            other => Err(SpecError::Driver(other.to_owned())),
        }
    }

    /// Opens it. What is not said in it, credentials above all, is looked for in `environment`, and then as each cloud does.
    ///
    /// # Errors
    /// There is no such directory, or no client can be built. Nothing is asked of an object store yet.
    pub fn open(&self, environment: &BTreeMap<String, String>) -> Result<Arc<dyn Storage>, SpecError> {
        match self {
            Self::Local { directory } => Ok(Arc::new(Local::open(directory)?)),
            #[cfg(feature = "cloud")]
            object => Ok(Arc::new(super::object::open::open(object, environment)?)),
            #[cfg(not(feature = "cloud"))]
            _ => {
                let _ = environment;
                Err(SpecError::NotBuilt)
            }
        }
    }
}

/// A driver's section, by keys in any case.
struct Section<'a> {
    driver: &'a str,
    parameters: &'a Map<String, Value>,
}

impl Section<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        let mut all = self.parameters.iter();
        all.find(|(name, value)| name.eq_ignore_ascii_case(key) && !value.is_null()).map(|(_, value)| value)
    }

    /// A text, or what the registry makes one of; `None` if it is empty.
    fn text(&self, key: &str) -> Option<String> {
        let text = match self.get(key)? {
            Value::String(text) => text.clone(),
            other @ (Value::Number(_) | Value::Bool(_)) => other.to_string(),
            _ => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    fn needed(&self, key: &'static str) -> Result<String, SpecError> {
        self.text(key).ok_or_else(|| SpecError::Missing { driver: self.driver.to_owned(), key })
    }

    fn secret(&self, key: &str) -> Option<Secret> {
        self.text(key).map(Secret::new)
    }

    /// As the registry reads it: a boolean, or a text that says one.
    fn flag(&self, key: &'static str, default: bool) -> Result<bool, SpecError> {
        match self.text(key).as_deref() {
            None => Ok(default),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    fn wrong(&self, key: &'static str, expected: &'static str) -> SpecError {
        SpecError::Wrong { driver: self.driver.to_owned(), key, expected }
    }

    /// The root directory as keys begin: Distribution leaves out the slashes around it and keeps those in it.
    fn root(&self) -> Result<String, SpecError> {
        let root = self.text("rootdirectory").unwrap_or_default();
        let inner = root.trim_matches('/');
        let is_odd = |part: &str| part.is_empty() || matches!(part, "." | "..") || part.trim() != part;
        if !inner.is_empty() && inner.split('/').any(is_odd) {
            return Err(SpecError::Root(root));
        }
        Ok(inner.to_owned())
    }
}

fn s3(section: &Section<'_>) -> Result<S3, SpecError> {
    if !section.flag("v4auth", true)? {
        return Err(SpecError::Unsupported(
            "v4auth: false asks for S3 signatures of version 2, which are not supported",
        ));
    }
    let bucket = section.needed("bucket")?;
    let endpoint = section.text("regionendpoint");
    let region = match (section.text("region"), &endpoint) {
        (Some(region), _) => region,
        (None, Some(_)) => ANY_REGION.to_owned(),
        (None, None) => section.needed("region")?,
    };
    // Registry 2.x names the bucket in the path wherever there is an endpoint, and every store still understands it.
    let in_path = endpoint.is_some() && section.flag("forcepathstyle", true)?;
    let style = if in_path || bucket.contains('.') { Style::Path } else { Style::VirtualHost };
    let style = if section.flag("forcepathstyle", false)? { Style::Path } else { style };
    let key_id = section.text("keyid");
    let encryption = match (section.flag("encrypt", false)?, key_id) {
        (false, _) => Encryption::Bucket,
        (true, None) => Encryption::Store,
        (true, id) => Encryption::KeyService(id),
    };
    Ok(S3 {
        root: section.root()?,
        region,
        endpoint,
        style,
        plain_http: !section.flag("secure", true)?,
        skip_verify: section.flag("skipverify", false)?,
        dual_stack: section.flag("usedualstack", false)?,
        key: section.text("accesskey").zip(section.secret("secretkey")),
        session_token: section.secret("sessiontoken"),
        encryption,
        bucket,
    })
}

fn gcs(section: &Section<'_>) -> Result<Gcs, SpecError> {
    let login = match (section.text("keyfile"), section.get("credentials")) {
        (Some(file), _) => GcsLogin::File(file),
        (None, Some(Value::Object(key))) => {
            GcsLogin::Key(Secret::new(Value::Object(key.clone()).to_string()))
        }
        (None, Some(_)) => return Err(section.wrong("credentials", "a section")),
        (None, None) => GcsLogin::Default,
    };
    Ok(Gcs { bucket: section.needed("bucket")?, root: section.root()?, login })
}

fn azure(section: &Section<'_>) -> Result<Azure, SpecError> {
    let mut account = section.text("accountname");
    let mut key = section.secret("accountkey");
    let mut endpoint = section.text("serviceurl");
    // `AccountName=…;AccountKey=…;BlobEndpoint=…`
    for (name, value) in section
        .text("connectionstring")
        .iter()
        .flat_map(|text| text.split(';'))
        .filter_map(|part| part.split_once('='))
    {
        match name {
            "AccountName" => account = Some(value.to_owned()),
            "AccountKey" => key = Some(Secret::new(value)),
            "BlobEndpoint" => endpoint = Some(value.to_owned()),
            _ => {}
        }
    }
    let account = match account {
        Some(account) => account,
        None => section.needed("accountname")?,
    };
    let realm = section.text("realm").unwrap_or_else(|| DEFAULT_REALM.to_owned());
    let endpoint = endpoint.unwrap_or_else(|| format!("https://{account}.blob.{realm}"));
    Ok(Azure {
        container: section.needed("container")?,
        root: section.root()?,
        endpoint: endpoint.trim_end_matches('/').to_owned(),
        skip_verify: section.flag("skipverify", false)?,
        login: azure_login(section, key)?,
        account,
    })
}

fn azure_login(section: &Section<'_>, key: Option<Secret>) -> Result<AzureLogin, SpecError> {
    let empty = Map::new();
    let parameters = section.get("credentials").and_then(Value::as_object).unwrap_or(&empty);
    let inner = Section { driver: section.driver, parameters };
    match (inner.text("type").as_deref(), key) {
        (Some("client_secret"), _) => Ok(AzureLogin::Client {
            tenant: inner.needed("tenantid")?,
            id: inner.needed("clientid")?,
            secret: Secret::new(inner.needed("secret")?),
        }),
        (Some("default_credentials"), _) | (None, None) => Ok(AzureLogin::Default),
        (Some("shared_key") | None, Some(key)) => Ok(AzureLogin::Key(key)),
        (Some("shared_key"), None) => Ok(AzureLogin::Key(Secret::new(section.needed("accountkey")?))),
        (Some(_), _) => {
            Err(section.wrong("credentials.type", "shared_key, client_secret or default_credentials"))
        }
    }
}

#[cfg(test)]
mod tests;
