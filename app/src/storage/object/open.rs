//! From what a registry's configuration says to a client of the store.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use opendal::layers::RetryLayer;
use opendal::services::{AzblobConfig, GcsConfig, S3Config};
use opendal::{Builder, Configurator as _, HttpTransporter, OperationContext, Operator};
use reqsign_core::{Context, ProvideCredential, ProvideCredentialChain, Signer, StaticEnv};
use reqsign_file_read_tokio::TokioFileRead;
use tokio::sync::OnceCell;

use super::held::Guard;
use super::s3::{Bucket, FIRST_DELAY, RETRIES};
use super::transport::{Certificates, Counted, Counter};
use super::{Breadth, Kind, Object};
use crate::storage::spec::{Azure, AzureLogin, Encryption, Gcs, GcsLogin, S3, Spec, SpecError, Style};

/// Where Google's own clients look for an emulator, and so Distribution does.
const GCS_EMULATOR: &str = "STORAGE_EMULATOR_HOST";
/// Google Cloud Storage, to read and to write.
const GCS_SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";

/// Opens an object store. Nothing is sent yet.
pub(in crate::storage) fn open(
    spec: &Spec,
    environment: &BTreeMap<String, String>,
) -> Result<Object, SpecError> {
    match spec {
        Spec::S3(spec) => open_s3(spec, environment),
        Spec::Gcs(spec) => open_gcs(spec, environment),
        Spec::Azure(spec) => open_azure(spec, environment),
        Spec::Local { .. } => Err(SpecError::Unsupported("a directory is no object store")),
    }
}

/// What every store is opened with.
struct Surroundings {
    transport: HttpTransporter,
    counter: Counter,
    context: Context,
}

impl Surroundings {
    fn new(
        endpoint: &str,
        certificates: Certificates,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, SpecError> {
        let counter = Counter::default();
        let counted = Counted::new(endpoint, certificates, counter.clone())
            .map_err(|error| SpecError::Client(error.to_string()))?;
        let transport = HttpTransporter::new(counted);
        let environment = StaticEnv {
            home_dir: environment.get("HOME").map(Into::into),
            envs: environment.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        };
        let context = Context::new()
            .with_file_read(TokioFileRead)
            .with_http_send(transport.clone())
            .with_env(environment);
        Ok(Self { transport, counter, context })
    }

    /// The same credentials wherever they are asked for: with the environment that was given, not this process's.
    fn chain<P: ProvideCredential>(&self, provider: P) -> ProvideCredentialChain<P::Credential> {
        ProvideCredentialChain::new().push(Within { context: self.context.clone(), provider })
    }

    fn operator(&self, builder: impl Builder) -> Result<Operator, SpecError> {
        let operator =
            Operator::new(builder).map_err(|error| SpecError::Client(error.message().to_owned()))?;
        let retries =
            RetryLayer::new().with_min_delay(FIRST_DELAY).with_max_times(RETRIES as usize).with_jitter();
        let context = OperationContext::new().with_http_transport(self.transport.clone());
        Ok(operator.with_context(context).layer(retries))
    }
}

struct Within<P> {
    context: Context,
    provider: P,
}

impl<P> fmt::Debug for Within<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Within")
    }
}

impl<P: ProvideCredential> ProvideCredential for Within<P> {
    type Credential = P::Credential;

    async fn provide_credential(&self, _: &Context) -> reqsign_core::Result<Option<Self::Credential>> {
        self.provider.provide_credential(&self.context).await
    }
}

fn certificates(skip_verify: bool) -> Certificates {
    if skip_verify { Certificates::Ignore } else { Certificates::Verify }
}

fn object(kind: Kind, surroundings: &Surroundings, location: String, operators: [Operator; 2]) -> Object {
    let [operator, outside] = operators;
    Object {
        kind,
        operator,
        outside,
        bucket: None,
        location,
        counter: surroundings.counter.clone(),
        breadth: Breadth::default(),
        versioning: OnceCell::new(),
        was_checked: AtomicBool::new(false),
        guard: Guard::default(),
        numbers: AtomicU64::new(0),
    }
}

/// `scheme://bucket/root`
fn location(scheme: &str, bucket: &str, root: &str) -> String {
    format!("{scheme}://{bucket}/{root}").trim_end_matches('/').to_owned()
}

fn open_s3(spec: &S3, environment: &BTreeMap<String, String>) -> Result<Object, SpecError> {
    let endpoint = endpoint(spec);
    let surroundings = Surroundings::new(&endpoint, certificates(spec.skip_verify), environment)?;
    let builder = |root: &str| {
        let mut config = S3Config::default();
        config.root = Some(format!("/{root}"));
        config.bucket.clone_from(&spec.bucket);
        config.endpoint = Some(endpoint.clone());
        config.region = Some(spec.region.clone());
        config.enable_virtual_host_style = spec.style == Style::VirtualHost;
        config.disable_config_load = true;
        let builder = config.into_builder().credential_provider_chain(s3_credentials(spec, &surroundings));
        match &spec.encryption {
            Encryption::Bucket => builder,
            Encryption::Store => builder.server_side_encryption_with_s3_key(),
            Encryption::KeyService(None) => builder.server_side_encryption_with_aws_managed_kms_key(),
            Encryption::KeyService(Some(id)) => {
                builder.server_side_encryption_with_customer_managed_kms_key(id)
            }
        }
    };
    let operators = [surroundings.operator(builder(&spec.root))?, surroundings.operator(builder(""))?];
    let guard = Guard::default();
    let bucket = Bucket {
        guard: guard.clone(),
        transport: surroundings.transport.clone(),
        signer: Signer::new(
            surroundings.context.clone(),
            s3_credentials(spec, &surroundings),
            reqsign_aws_v4::RequestSigner::new("s3", &spec.region),
        ),
        address: match spec.style {
            Style::Path => format!("{endpoint}/{}", spec.bucket),
            Style::VirtualHost => endpoint.replacen("://", &format!("://{}.", spec.bucket), 1),
        },
        root: if spec.root.is_empty() { String::new() } else { format!("{}/", spec.root) },
    };
    let location = location("s3", &spec.bucket, &spec.root);
    Ok(Object {
        bucket: Some(Arc::new(bucket)),
        guard,
        ..object(Kind::S3, &surroundings, location, operators)
    })
}

/// With its scheme, without a `/` at its end.
fn endpoint(spec: &S3) -> String {
    let scheme = if spec.plain_http { "http" } else { "https" };
    let endpoint = match &spec.endpoint {
        Some(endpoint) if endpoint.contains("://") => endpoint.clone(),
        Some(endpoint) => format!("{scheme}://{endpoint}"),
        None => {
            let kind = if spec.dual_stack { "s3.dualstack" } else { "s3" };
            let suffix = if spec.region.starts_with("cn-") { ".cn" } else { "" };
            format!("{scheme}://{kind}.{}.amazonaws.com{suffix}", spec.region)
        }
    };
    endpoint.trim_end_matches('/').to_owned()
}

fn s3_credentials(
    spec: &S3,
    surroundings: &Surroundings,
) -> ProvideCredentialChain<reqsign_aws_v4::Credential> {
    match &spec.key {
        None => surroundings.chain(reqsign_aws_v4::DefaultCredentialProvider::new()),
        Some((id, secret)) => {
            let key = reqsign_aws_v4::StaticCredentialProvider::new(id, secret.expose());
            surroundings.chain(match &spec.session_token {
                Some(token) => key.with_session_token(token.expose()),
                None => key,
            })
        }
    }
}

fn open_gcs(spec: &Gcs, environment: &BTreeMap<String, String>) -> Result<Object, SpecError> {
    let emulator = environment.get(GCS_EMULATOR).filter(|host| !host.is_empty());
    let emulator =
        emulator.map(|host| if host.contains("://") { host.clone() } else { format!("http://{host}") });
    let endpoint = emulator.clone().unwrap_or_else(|| "https://storage.googleapis.com".to_owned());
    let surroundings = Surroundings::new(&endpoint, Certificates::Verify, environment)?;
    let builder = |root: &str| {
        let mut config = GcsConfig::default();
        config.root = Some(format!("/{root}"));
        config.bucket.clone_from(&spec.bucket);
        config.endpoint = Some(endpoint.trim_end_matches('/').to_owned());
        config.disable_config_load = true;
        config.disable_vm_metadata = true;
        config.skip_signature = emulator.is_some();
        config.into_builder().credential_provider_chain(gcs_credentials(&spec.login, &surroundings))
    };
    let operators = [surroundings.operator(builder(&spec.root))?, surroundings.operator(builder(""))?];
    Ok(object(Kind::Gcs, &surroundings, location("gs", &spec.bucket, &spec.root), operators))
}

fn gcs_credentials(
    login: &GcsLogin,
    surroundings: &Surroundings,
) -> ProvideCredentialChain<reqsign_google::Credential> {
    use reqsign_google::{DefaultCredentialProvider, FileCredentialProvider, StaticCredentialProvider};
    match login {
        GcsLogin::Default => surroundings.chain(DefaultCredentialProvider::builder().build()),
        GcsLogin::File(path) => surroundings.chain(FileCredentialProvider::new(path).with_scope(GCS_SCOPE)),
        GcsLogin::Key(json) => {
            surroundings.chain(StaticCredentialProvider::new(json.expose()).with_scope(GCS_SCOPE))
        }
    }
}

fn open_azure(spec: &Azure, environment: &BTreeMap<String, String>) -> Result<Object, SpecError> {
    let surroundings = Surroundings::new(&spec.endpoint, certificates(spec.skip_verify), environment)?;
    let builder = |root: &str| {
        let config = AzblobConfig {
            root: Some(format!("/{root}")),
            container: spec.container.clone(),
            endpoint: Some(spec.endpoint.clone()),
            account_name: Some(spec.account.clone()),
            ..AzblobConfig::default()
        };
        config.into_builder().credential_provider_chain(azure_credentials(spec, &surroundings))
    };
    let operators = [surroundings.operator(builder(&spec.root))?, surroundings.operator(builder(""))?];
    Ok(object(Kind::Azure, &surroundings, location("azure", &spec.container, &spec.root), operators))
}

fn azure_credentials(
    spec: &Azure,
    surroundings: &Surroundings,
) -> ProvideCredentialChain<reqsign_azure_storage::Credential> {
    use reqsign_azure_storage::{
        ClientSecretCredentialProvider, DefaultCredentialProvider, StaticCredentialProvider,
    };
    match &spec.login {
        AzureLogin::Default => surroundings.chain(DefaultCredentialProvider::new()),
        AzureLogin::Key(key) => {
            surroundings.chain(StaticCredentialProvider::new_shared_key(&spec.account, key.expose()))
        }
        AzureLogin::Client { tenant, id, secret } => surroundings.chain(
            ClientSecretCredentialProvider::new()
                .with_tenant_id(tenant)
                .with_client_id(id)
                .with_client_secret(secret.expose()),
        ),
    }
}
