//! Which registry this is, and what that one does differently. One table, [`HABITS`], which survey and apply go by;
//! docs/registries.md says where each row comes from.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

/// The software or the service behind the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Nothing tells, or it is none of these: what it can do is found by asking.
    Other,
    /// CNCF Distribution, `registry:2` and `registry:3`.
    Distribution,
    /// zot.
    Zot,
    /// Harbor 2.
    Harbor,
    /// GitLab's container registry.
    Gitlab,
    /// Gitea and Forgejo.
    Gitea,
    /// Quay, and quay.io.
    Quay,
    /// GitHub's ghcr.io.
    Ghcr,
    /// Amazon ECR, private.
    Ecr,
    /// Amazon ECR, public.
    EcrPublic,
    /// Google Artifact Registry, and gcr.io.
    ArtifactRegistry,
    /// Azure Container Registry.
    Acr,
    /// Docker Hub.
    DockerHub,
}

/// What one kind of registry does differently.
#[derive(Debug)]
pub struct Habits {
    /// Whose habits these are.
    pub kind: Kind,
    /// What people call it.
    pub name: &'static str,
    /// Where its repositories are listed.
    pub catalog: Catalog,
    /// How manifests are deleted.
    pub deletes: Deletes,
    /// How a tag is deleted alone.
    pub untags: Untags,
    /// What becomes of manifests without a tag.
    pub untagged: Untagged,
    /// Whether there is a referrers API.
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers>
    pub referrers: Referrers,
    /// What an answer of 400, 403, 405, 409 or 412 says, in lower case, when what was to go is immutable, protected or locked.
    pub immutable: &'static [&'static str],
}

/// Where the repositories are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Catalog {
    /// `/v2/_catalog`.
    Registry,
    /// `/v2/_catalog`, and where it lists none, the vendor's own listing.
    RegistryThen(Vendor),
    /// The vendor's own listing.
    Vendor(Vendor),
}

/// A listing that is not the registry API's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// `GET /api/v2.0/repositories`.
    Harbor,
    /// `GET /api/v4/projects/:id/registry/repositories`, or `groups`.
    Gitlab,
    /// `GET /api/v1/repository`.
    Quay,
    /// `GET /orgs/:org/packages`, or `users`.
    Github,
    /// `GET /v2/namespaces/:namespace/repositories` of hub.docker.com.
    Hub,
    /// `child` in the answer to `GET /v2/:name/tags/list`.
    Google,
}

/// How manifests are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletes {
    /// By digest: every tag on it goes with it.
    WithTags,
    /// By digest, and only when no tag is left on it: tags are deleted first.
    AfterTags,
    /// With a request of the vendor's own: every tag on it goes with it.
    ByVendor,
    /// Not at all.
    Not {
        /// Why.
        why: &'static str,
        /// What to do instead.
        hint: &'static str,
    },
}

/// How a tag is deleted alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untags {
    /// It is asked.
    Asked,
    /// By its name in the place of the digest.
    ByName,
    /// With a request of the vendor's own.
    ByVendor,
    /// Not at all, or not without the manifest.
    Not,
}

/// What becomes of manifests without a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untagged {
    /// They stay until they are deleted.
    Stay,
    /// They cannot be deleted, and go by themselves when nothing refers to them.
    Collected,
}

/// Whether there is a referrers API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Referrers {
    /// It is asked, once.
    Asked,
    /// There is none: only the fallback tag.
    None,
}

const HUB_WHY: &str =
    "it deletes a manifest only when no tag is on it, and tags only over Docker Hub's own pages";

/// What most do: each row below says where one differs.
const USUAL: Habits = Habits {
    kind: Kind::Other,
    name: "a registry",
    catalog: Catalog::Registry,
    deletes: Deletes::WithTags,
    untags: Untags::Asked,
    untagged: Untagged::Stay,
    referrers: Referrers::Asked,
    immutable: &["immutable"],
};

/// The table, in the order of [`Kind`].
const HABITS: [Habits; 13] = [
    USUAL,
    Habits { kind: Kind::Distribution, name: "Distribution", immutable: &[], ..USUAL },
    Habits { kind: Kind::Zot, name: "zot", untags: Untags::ByName, ..USUAL },
    Habits {
        kind: Kind::Harbor,
        name: "Harbor",
        catalog: Catalog::Vendor(Vendor::Harbor),
        untags: Untags::ByVendor,
        ..USUAL
    },
    Habits {
        kind: Kind::Gitlab,
        name: "GitLab",
        catalog: Catalog::RegistryThen(Vendor::Gitlab),
        immutable: &["immutable", "protected"],
        ..USUAL
    },
    Habits { kind: Kind::Gitea, name: "Gitea", untags: Untags::ByName, ..USUAL },
    Habits {
        kind: Kind::Quay,
        name: "Quay",
        catalog: Catalog::RegistryThen(Vendor::Quay),
        untags: Untags::ByName,
        untagged: Untagged::Collected,
        ..USUAL
    },
    Habits {
        kind: Kind::Ghcr,
        name: "GitHub's ghcr.io",
        catalog: Catalog::Vendor(Vendor::Github),
        deletes: Deletes::ByVendor,
        untags: Untags::Not,
        referrers: Referrers::None,
        ..USUAL
    },
    Habits { kind: Kind::Ecr, name: "Amazon ECR", ..USUAL },
    Habits { kind: Kind::EcrPublic, name: "Amazon ECR Public", ..USUAL },
    Habits {
        kind: Kind::ArtifactRegistry,
        name: "Artifact Registry",
        catalog: Catalog::RegistryThen(Vendor::Google),
        deletes: Deletes::AfterTags,
        untags: Untags::ByName,
        ..USUAL
    },
    Habits {
        kind: Kind::Acr,
        name: "Azure Container Registry",
        untags: Untags::ByVendor,
        immutable: &["registry_disallowed_operation", "the operation is disallowed"],
        ..USUAL
    },
    Habits {
        kind: Kind::DockerHub,
        name: "Docker Hub",
        catalog: Catalog::Vendor(Vendor::Hub),
        deletes: Deletes::Not {
            why: HUB_WHY,
            hint: "delete what `clean-registry plan` names on Docker Hub's pages",
        },
        untags: Untags::Not,
        ..USUAL
    },
];

impl Kind {
    /// What this kind does differently.
    #[must_use]
    pub fn habits(self) -> &'static Habits {
        &HABITS[self as usize]
    }

    /// Which one answers at `host` (without a port), as far as the name tells.
    pub(super) fn of_host(host: &str) -> Option<Self> {
        let host = host.to_ascii_lowercase();
        let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| host.ends_with(suffix));
        match host.as_str() {
            "ghcr.io" => Some(Self::Ghcr),
            "quay.io" => Some(Self::Quay),
            "gcr.io" => Some(Self::ArtifactRegistry),
            "public.ecr.aws" => Some(Self::EcrPublic),
            "registry.gitlab.com" => Some(Self::Gitlab),
            "docker.io" | "index.docker.io" | "registry-1.docker.io" => Some(Self::DockerHub),
            _ if ends(&[".gcr.io", "-docker.pkg.dev"]) => Some(Self::ArtifactRegistry),
            _ if ends(&[".azurecr.io", ".azurecr.cn", ".azurecr.us"]) => Some(Self::Acr),
            _ if host.contains(".dkr.ecr") && ends(&[".amazonaws.com", ".amazonaws.com.cn"]) => {
                Some(Self::Ecr)
            }
            _ => None,
        }
    }

    /// Which one answered `GET /v2/`: by the token server it names (`realm` and `service`), and by headers of its own.
    pub(super) fn of_answer(realm: &str, service: &str, has_header: impl Fn(&str) -> bool) -> Option<Self> {
        let path = realm.split(['?', '#']).next().unwrap_or_default();
        if has_header("gitlab-container-registry-version") {
            return Some(Self::Gitlab);
        }
        match service {
            "harbor-registry" => Some(Self::Harbor),
            "container_registry" if path.ends_with("/jwt/auth") => Some(Self::Gitlab),
            "container_registry" if path.ends_with("/v2/token") => Some(Self::Gitea),
            _ if !service.is_empty() && path.ends_with("/v2/auth") => Some(Self::Quay),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.habits().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_row() {
        for (at, habits) in HABITS.iter().enumerate() {
            assert_eq!(habits.kind as usize, at, "{}", habits.name);
            assert_eq!(habits.kind.habits().name, habits.name);
        }
    }

    #[test]
    fn services_are_known_by_their_host() {
        for (host, kind) in [
            ("ghcr.io", Some(Kind::Ghcr)),
            ("quay.io", Some(Kind::Quay)),
            ("eu.gcr.io", Some(Kind::ArtifactRegistry)),
            ("europe-west9-docker.pkg.dev", Some(Kind::ArtifactRegistry)),
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", Some(Kind::Ecr)),
            ("123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", Some(Kind::Ecr)),
            ("public.ecr.aws", Some(Kind::EcrPublic)),
            ("shop.AZURECR.io", Some(Kind::Acr)),
            ("registry-1.docker.io", Some(Kind::DockerHub)),
            ("registry.gitlab.com", Some(Kind::Gitlab)),
            ("registry.example", None),
            ("ghcr.io.example", None),
            ("notgcr.io", None),
        ] {
            assert_eq!(Kind::of_host(host), kind, "{host}");
        }
    }

    #[test]
    fn software_is_known_by_its_token_server() {
        let of = |realm, service| Kind::of_answer(realm, service, |_| false);
        assert_eq!(of("https://h.example/service/token", "harbor-registry"), Some(Kind::Harbor));
        assert_eq!(of("https://gitlab.example/jwt/auth", "container_registry"), Some(Kind::Gitlab));
        assert_eq!(of("https://git.example/v2/token", "container_registry"), Some(Kind::Gitea));
        assert_eq!(of("https://quay.example/v2/auth", "quay.example"), Some(Kind::Quay));
        assert_eq!(of("https://auth.example/token", "registry.example"), None);
        assert_eq!(of("", ""), None);
        assert_eq!(
            Kind::of_answer("", "", |name| name == "gitlab-container-registry-version"),
            Some(Kind::Gitlab)
        );
    }
}
