//! Which images the containers and services of an engine use.

use std::collections::BTreeMap;

use bollard::errors::Error as EngineError;
use bollard::models::{ContainerSummary, Service, TaskSpec};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListServicesOptions, ListTasksOptions,
};

use super::{Engine, Error};

/// An image that something uses, by every name that the engine knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedImage {
    /// What uses it: `container web (running)`.
    pub user: String,
    /// References and IDs, as the engine writes them.
    pub references: Vec<String>,
}

impl Engine {
    /// The image of every container, running or not.
    ///
    /// # Errors
    /// When the engine does not answer, or not as one.
    pub async fn images_of_containers(&self) -> Result<Vec<UsedImage>, Error> {
        let doing = "list its containers";
        let of = |error: EngineError| Error::of(&self.endpoint, "", doing, &error);
        let all = ListContainersOptionsBuilder::default().all(true).build();
        let containers = self.docker.list_containers(Some(all)).await.map_err(of)?;
        let all = ListImagesOptionsBuilder::default().all(true).digests(true).build();
        let images = self.docker.list_images(Some(all)).await.map_err(of)?;
        let pulled: BTreeMap<&str, &Vec<String>> =
            images.iter().map(|image| (bare(&image.id), &image.repo_digests)).collect();
        let mut used = Vec::new();
        for container in containers {
            let mut references: Vec<String> = container.image_id.clone().into_iter().collect();
            let descriptor = container.image_manifest_descriptor.as_ref();
            references.extend(descriptor.and_then(|descriptor| descriptor.digest.clone()));
            references.extend(self.written(&container).await?);
            let id = container.image_id.as_deref().map(bare);
            // `<none>@sha256:…` is an image that has lost its name.
            let digests = id.and_then(|id| pulled.get(id).copied()).into_iter().flatten();
            references.extend(digests.filter(|digest| !digest.starts_with("<none>")).cloned());
            references.retain(|reference| !reference.is_empty());
            used.push(UsedImage { user: user(&container), references });
        }
        Ok(used)
    }

    /// The image as the container's owner wrote it. The list shows an ID in its place once that name stands for another image.
    async fn written(&self, container: &ContainerSummary) -> Result<Option<String>, Error> {
        let (Some(image), Some(id)) = (&container.image, &container.id) else {
            return Ok(container.image.clone());
        };
        let is_id = container.image_id.as_deref().map(bare).is_some_and(|id| id.starts_with(bare(image)));
        if !is_id {
            return Ok(Some(image.clone()));
        }
        match self.docker.inspect_container(id, None).await {
            Ok(made) => Ok(made.config.and_then(|config| config.image)),
            // It has been removed since.
            Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(Error::of(&self.endpoint, id, "inspect the container", &error)),
        }
    }

    /// The image of every Swarm service, and of its tasks, which may have been made before the service was changed. None where there is
    /// no Swarm, or none that this engine manages.
    ///
    /// # Errors
    /// When the engine does not answer, or not as one.
    pub async fn images_of_services(&self) -> Result<Vec<UsedImage>, Error> {
        let services = self.docker.list_services(None::<ListServicesOptions>).await;
        let Some(services) = self.if_swarm(services, "list its services")? else { return Ok(Vec::new()) };
        let tasks = self.docker.list_tasks(None::<ListTasksOptions>).await;
        let tasks = self.if_swarm(tasks, "list its tasks")?.unwrap_or_default();
        let name =
            |service: &Service| service.spec.as_ref().and_then(|spec| spec.name.clone()).unwrap_or_default();
        let names: BTreeMap<_, _> = services
            .iter()
            .map(|service| (service.id.as_deref().unwrap_or_default(), name(service)))
            .collect();
        let mut used = Vec::new();
        for service in &services {
            let template = service.spec.as_ref().and_then(|spec| spec.task_template.as_ref());
            used.push(UsedImage { user: format!("service {}", name(service)), references: image(template) });
        }
        for task in &tasks {
            let id = task.service_id.as_deref().unwrap_or_default();
            let service = names.get(id).map_or(id, String::as_str);
            let references = image(task.spec.as_ref());
            used.push(UsedImage { user: format!("task of service {service}"), references });
        }
        Ok(used)
    }

    /// Podman has no such thing; an engine outside of a Swarm, or one that is no manager, says 503 (406 before 1.13).
    fn if_swarm<T>(&self, listed: Result<T, EngineError>, doing: &str) -> Result<Option<T>, Error> {
        match listed {
            Ok(listed) => Ok(Some(listed)),
            Err(EngineError::DockerResponseServerError { status_code: 404 | 406 | 503, .. }) => Ok(None),
            Err(error) => Err(Error::of(&self.endpoint, "", doing, &error)),
        }
    }
}

fn image(task: Option<&TaskSpec>) -> Vec<String> {
    task.and_then(|task| task.container_spec.as_ref()?.image.clone()).into_iter().collect()
}

fn bare(id: &str) -> &str {
    id.strip_prefix("sha256:").unwrap_or(id)
}

fn user(container: &ContainerSummary) -> String {
    let name = container.names.iter().flatten().next().or(container.id.as_ref());
    let name = name.map(|name| name.trim_start_matches('/')).unwrap_or_default();
    let state = container.state.as_ref().map(|state| format!(" ({state})")).unwrap_or_default();
    format!("container {name}{state}")
}
