//! What the containers and services of an engine use.

use std::collections::BTreeMap;
use std::path::Path;

use super::Used;
use super::section::DockerSection;
use crate::runtime::docker::{Connection, Engine, Error};
use crate::setting::docker_config_dir;

/// Every container's image, by name, by ID and by the digests it was pulled by; and the images of Swarm services.
///
/// # Errors
/// When the engine does not answer.
pub(super) async fn list(
    section: &DockerSection,
    name: &str,
    environment: &BTreeMap<String, String>,
) -> Result<Vec<Used>, Error> {
    let variable = |name: &str| environment.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let is_told = section.host.is_some() || section.context.is_some();
    let config_dir = docker_config_dir(environment);
    let by_environment =
        variable("DOCKER_TLS_VERIFY").map(|_| variable("DOCKER_CERT_PATH").map_or(&*config_dir, Path::new));
    let connection = Connection {
        host: section.host.as_deref().or_else(|| variable("DOCKER_HOST").filter(|_| !is_told)),
        context: section.context.as_deref().or_else(|| variable("DOCKER_CONTEXT")),
        config_dir: &config_dir,
        certificates: section.certificates.as_deref().or(by_environment),
    };
    let engine = Engine::connect(&connection).await?;
    let mut used = Vec::new();
    for image in engine.images_of_containers().await?.into_iter().chain(engine.images_of_services().await?) {
        let by = format!("{}, {name}", image.user);
        used.extend(image.references.into_iter().map(|reference| Used { reference, by: by.clone() }));
    }
    Ok(used)
}
