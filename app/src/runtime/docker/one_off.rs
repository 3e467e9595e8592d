//! A container that runs one command in the place of another: same image, environment, user, volumes and network.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use bollard::errors::Error as EngineError;
use bollard::models::{
    ContainerConfig, ContainerCreateBody, HealthConfig, HostConfig, Mount, MountPoint, MountType,
    MountVolumeOptions,
};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::exec::{self, Line, OnLine, Output};
use super::{Container, Error};

/// Says of a one-off container whose place it takes, by id: what a killed run leaves behind is found by it.
const LABEL: &str = "clean-registry.in-place-of";

/// How long the output of a command that ended may stay open.
const LAST_OUTPUT: Duration = Duration::from_secs(30);

/// A one-off container, made and not yet run. Remove it whatever happens.
#[derive(Debug)]
#[must_use = "a one-off container stays until it is removed"]
pub struct OneOff(Container);

impl Container {
    /// Runs one command in a one-off container, to its end, and removes the container.
    ///
    /// # Errors
    /// The container cannot be made, started or removed, or the engine is lost. An exit code other than 0 is no error.
    pub async fn run_once(&self, argv: &[&str]) -> Result<Output, Error> {
        let one_off = self.one_off(argv).await?;
        let mut output = Output::default();
        let ended = one_off.run(&mut |line| output.push(line)).await;
        one_off.remove().await?;
        output.code = ended?;
        Ok(output)
    }

    /// Makes a one-off container for this command, after removing what an earlier run left behind.
    ///
    /// # Errors
    /// The engine refuses, or is lost.
    pub async fn one_off(&self, argv: &[&str]) -> Result<OneOff, Error> {
        self.remove_leftovers().await?;
        let doing = format!("make a container in the place of {:?}", self.name());
        let made = self.docker().create_container(None, self.in_place_of_it(argv)).await;
        let id = made.map_err(|error| self.error(&doing, &error))?.id;
        Container::find(self.engine(), &id).await.map(OneOff)
    }

    /// Removes the one-off containers of runs that were killed; returns how many there were.
    ///
    /// # Errors
    /// The engine refuses, or is lost.
    pub async fn remove_leftovers(&self) -> Result<usize, Error> {
        let label = format!("{LABEL}={}", self.id());
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = self.docker().list_containers(Some(options)).await;
        let leftovers = listed.map_err(|error| self.error("list containers", &error))?;
        for id in leftovers.iter().filter_map(|leftover| leftover.id.as_deref()) {
            self.remove_one_off(id).await?;
        }
        Ok(leftovers.len())
    }

    /// Without its volumes (`v`): they are the registry's.
    async fn remove_one_off(&self, id: &str) -> Result<(), Error> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(false).build();
        let removed = self.docker().remove_container(id, Some(options)).await;
        removed.map_err(|error| self.error(&format!("remove one-off container {id}"), &error))
    }

    fn in_place_of_it(&self, argv: &[&str]) -> ContainerCreateBody {
        let config = self.made().config.clone().unwrap_or_default();
        let ContainerConfig { user, env, working_dir, image, .. } = config;
        let (program, arguments) = argv.split_at(argv.len().min(1));
        let owned = |words: &[&str]| Some(words.iter().map(ToString::to_string).collect());
        ContainerCreateBody {
            // By id: the name may have come to mean another image since.
            image: self.made().image.clone().or(image),
            user,
            env,
            working_dir,
            entrypoint: owned(program),
            cmd: owned(arguments),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            healthcheck: Some(HealthConfig { test: owned(&["NONE"]), ..HealthConfig::default() }),
            labels: Some(HashMap::from([(LABEL.to_owned(), self.id().to_owned())])),
            host_config: Some(self.its_host()),
            ..ContainerCreateBody::default()
        }
    }

    /// What its process may reach, and nothing that would publish ports or bring it back after its end.
    fn its_host(&self) -> HostConfig {
        let host = self.made().host_config.clone().unwrap_or_default();
        HostConfig {
            mounts: Some(self.its_mounts()),
            network_mode: host.network_mode,
            dns: host.dns,
            dns_options: host.dns_options,
            dns_search: host.dns_search,
            extra_hosts: host.extra_hosts,
            tmpfs: host.tmpfs,
            cap_add: host.cap_add,
            cap_drop: host.cap_drop,
            group_add: host.group_add,
            privileged: host.privileged,
            readonly_rootfs: host.readonly_rootfs,
            security_opt: host.security_opt,
            userns_mode: host.userns_mode,
            memory: host.memory,
            runtime: host.runtime,
            ..HostConfig::default()
        }
    }

    /// Its volumes and directories, each by its own name. (`VolumesFrom` would do for Docker; Podman refuses it where
    /// the image declares a volume at the same place.)
    fn its_mounts(&self) -> Vec<Mount> {
        let host = self.made().host_config.as_ref();
        let declared = host.and_then(|host| host.mounts.as_deref()).unwrap_or_default();
        let points = self.made().mounts.as_deref().unwrap_or_default();
        points.iter().filter_map(|point| same_mount(point, declared)).collect()
    }
}

/// The same storage at the same place. What was declared may name a part of a volume, and is taken as it is.
fn same_mount(point: &MountPoint, declared: &[Mount]) -> Option<Mount> {
    let is_it = |mount: &&Mount| mount.target == point.destination && mount.source.is_some();
    if let Some(mount) = declared.iter().find(is_it) {
        return Some(mount.clone());
    }
    let mount = Mount {
        target: point.destination.clone(),
        read_only: point.rw.map(|writable| !writable),
        ..Mount::default()
    };
    match point.typ.as_deref() {
        Some("bind") => Some(Mount { typ: Some(MountType::BIND), source: point.source.clone(), ..mount }),
        Some("volume") => Some(Mount {
            typ: Some(MountType::VOLUME),
            source: point.name.clone(),
            volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
            ..mount
        }),
        _ => None,
    }
}

impl OneOff {
    /// A file as the command will see it; see [`Container::read_file`].
    ///
    /// # Errors
    /// As there.
    pub async fn read_file(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        self.0.read_file(path).await
    }

    /// Runs the command to its end; returns its exit code.
    ///
    /// # Errors
    /// The program does not start, or the engine is lost.
    pub async fn run(&self, on_line: &mut OnLine<'_>) -> Result<i64, Error> {
        let lost = |error: EngineError| self.0.error("run a one-off container", &error);
        let options = AttachContainerOptionsBuilder::default().stdout(true).stderr(true).stream(true).build();
        // Attached before it starts, so that no line is missed. Podman finds out here that there is no such program.
        let begun = match self.0.docker().attach_container(self.0.id(), Some(options)).await {
            Ok(attached) => {
                self.0.docker().start_container(self.0.id(), None).await.map(|()| attached.output)
            }
            Err(error) => Err(error),
        };
        let output = match begun {
            Err(error) if exec::is_missing_program(&error) => {
                on_line(Line::Err(&error.to_string()));
                return Ok(127);
            }
            begun => begun.map_err(lost)?,
        };
        let mut reading = pin!(exec::read_lines(output, on_line));
        let mut ending = pin!(self.exit_code());
        tokio::select! {
            read = &mut reading => {
                read.map_err(lost)?;
                ending.await
            }
            code = &mut ending => {
                // An engine may forget to close the output of what ended at once.
                if let Ok(read) = timeout(LAST_OUTPUT, reading).await {
                    read.map_err(lost)?;
                }
                code
            }
        }
    }

    async fn exit_code(&self) -> Result<i64, Error> {
        let doing = "wait for a one-off container";
        match self.0.docker().wait_container(self.0.id(), None).next().await {
            Some(Ok(end)) => Ok(end.status_code),
            Some(Err(EngineError::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(error)) => Err(self.0.error(doing, &error)),
            None => Err(Error::Lost { doing: doing.to_owned(), reason: "no answer".to_owned() }),
        }
    }

    /// Removes it, running or not; the volumes stay.
    ///
    /// # Errors
    /// The engine refuses, or is lost.
    pub async fn remove(self) -> Result<(), Error> {
        self.0.remove_one_off(self.0.id()).await
    }
}
