//! Which platforms an image runs on, and which one a task needs.
//!
//! An image of the wrong architecture fails only when its tasks start, with `exec format error`. The index of a
//! multi-platform image says so before; the manifest of a single image does not, and then nothing is claimed.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

/// An operating system and an architecture, in the names of the
/// [OCI image index](https://github.com/opencontainers/image-spec/blob/main/image-index.md): those of Go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Platform {
    /// `linux` or `windows`.
    pub os: String,
    /// `amd64`, `arm64` and others.
    pub architecture: String,
}

impl Platform {
    fn new(os: impl Into<String>, architecture: impl Into<String>) -> Self {
        Self { os: os.into(), architecture: architecture.into() }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// The platforms that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Platforms {
    /// An index: one image for each of these.
    Index(BTreeSet<Platform>),
    /// A single image. Its platform is in its configuration, not in its manifest.
    Single,
    /// They can't be read, for this reason.
    Unknown(String),
}

/// Reads the body of a manifest: an OCI image index, a Docker manifest list, or the manifest of one image. What it is
/// shows in its fields; the media type only helps to name what is neither.
#[must_use]
pub fn read(media_type: Option<&str>, body: &str) -> Platforms {
    let Ok(manifest) = serde_json::from_str::<Value>(body) else {
        return Platforms::Unknown("its manifest is not JSON".into());
    };
    if let Some(children) = manifest.get("manifests").and_then(Value::as_array) {
        let platforms = children.iter().filter(|child| !is_attestation(child)).map(platform_of).collect();
        return match platforms {
            Some(platforms) => Platforms::Index(platforms),
            None => Platforms::Unknown("its index does not name the platform of every image".into()),
        };
    }
    if manifest.get("config").is_some_and(Value::is_object) {
        return Platforms::Single;
    }
    let media_type = media_type.unwrap_or("of no known media type");
    Platforms::Unknown(format!("its manifest ({media_type}) is neither an index nor that of an image"))
}

/// Whether a child of an index is not an image but a statement about one, as Docker's builder
/// [attaches them](https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md).
pub(crate) fn is_attestation(child: &Value) -> bool {
    let annotated = child.get("annotations").is_some_and(|all| all.get("vnd.docker.reference.type").is_some());
    annotated || platform_of(child).is_some_and(|platform| platform == Platform::new("unknown", "unknown"))
}

pub(crate) fn platform_of(child: &Value) -> Option<Platform> {
    let platform = child.get("platform")?;
    let text = |key| platform.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    Some(Platform::new(text("os")?, text("architecture")?))
}

/// The platform that a task needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// This one.
    Platform(Platform),
    /// Nobody says, for this reason.
    Unknown(String),
}

/// The platform that the tasks of a task definition need:
/// [`runtimePlatform`](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RuntimePlatform.html), or what
/// Fargate takes where that is absent. On EC2 there is no default: the instances have the platform that they have. A
/// task definition for both is one for EC2, because a service may run it there.
#[must_use]
pub fn wanted(task_definition_body: &Map<String, Value>) -> Wanted {
    let runtime_platform = task_definition_body.get("runtimePlatform");
    let launch_types = task_definition_body.get("requiresCompatibilities").and_then(Value::as_array);
    let only_fargate = launch_types.is_some_and(|all| !all.is_empty() && all.iter().all(|one| one == "FARGATE"));
    let setting = |key, default| {
        let set = runtime_platform.and_then(|platform| platform.get(key)).and_then(Value::as_str);
        set.or_else(|| only_fargate.then_some(default))
    };
    let settings = setting("operatingSystemFamily", "LINUX").zip(setting("cpuArchitecture", "X86_64"));
    let Some((family, architecture)) = settings else {
        return Wanted::Unknown(
            "the task definition has no complete runtimePlatform, and so runs on any instance".into(),
        );
    };
    match os_of(family).zip(architecture_of(architecture)) {
        Some((os, architecture)) => Wanted::Platform(Platform::new(os, architecture)),
        None => Wanted::Unknown(format!("Tidegate does not know the runtimePlatform {family} on {architecture}")),
    }
}

fn os_of(family: &str) -> Option<&'static str> {
    match family {
        "LINUX" => Some("linux"),
        family if family.starts_with("WINDOWS_") => Some("windows"),
        _ => None,
    }
}

fn architecture_of(cpu: &str) -> Option<&'static str> {
    match cpu {
        "X86_64" => Some("amd64"),
        "ARM64" => Some("arm64"),
        _ => None,
    }
}

/// Whether an image runs where it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// It does.
    Fits,
    /// It does not.
    Lacks {
        /// What the task needs.
        wanted: Platform,
        /// What the image has.
        has: BTreeSet<Platform>,
    },
    /// It may or may not, for this reason.
    CannotTell(String),
}

/// Holds what a task needs against what an image has.
#[must_use]
pub fn check(wanted: &Wanted, platforms: &Platforms) -> Check {
    match (wanted, platforms) {
        (Wanted::Unknown(reason), _) | (_, Platforms::Unknown(reason)) => Check::CannotTell(reason.clone()),
        (_, Platforms::Single) => Check::CannotTell("the manifest of a single image does not name its platform".into()),
        (Wanted::Platform(wanted), Platforms::Index(has)) if has.contains(wanted) => Check::Fits,
        (Wanted::Platform(wanted), Platforms::Index(has)) => Check::Lacks { wanted: wanted.clone(), has: has.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    fn platform(text: &str) -> Platform {
        let (os, architecture) = text.split_once('/').unwrap();
        Platform::new(os, architecture)
    }

    fn platforms(all: &[&str]) -> Platforms {
        Platforms::Index(all.iter().map(|text| platform(text)).collect())
    }

    fn read_json(media_type: Option<&str>, body: &Value) -> Platforms {
        read(media_type, &body.to_string())
    }

    fn wanted_of(task_definition: &Value) -> Wanted {
        wanted(task_definition.as_object().unwrap())
    }

    /// What `docker buildx build --platform linux/amd64,linux/arm64` pushes, with provenance as is its default.
    fn buildx_index() -> Value {
        let child = |os: &str, architecture: &str| {
            json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:00", "size": 1,
                   "platform": {"os": os, "architecture": architecture}})
        };
        let mut attestation = child("unknown", "unknown");
        attestation["annotations"] =
            json!({"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": "sha256:00"});
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            child("linux", "amd64"), child("linux", "arm64"), attestation, child("unknown", "unknown"),
        ]})
    }

    #[test]
    fn an_index_names_its_platforms_and_attestations_are_none() {
        let expected = platforms(&["linux/amd64", "linux/arm64"]);
        assert_eq!(read_json(Some(INDEX), &buildx_index()), expected);
        assert_eq!(read_json(None, &buildx_index()), expected, "the media type is only a hint");
    }

    #[test]
    fn an_annotation_alone_makes_an_attestation() {
        let mut index = buildx_index();
        index["manifests"][1]["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
        assert_eq!(read_json(Some(INDEX), &index), platforms(&["linux/amd64"]));
    }

    #[test]
    fn a_docker_manifest_list_is_an_index_too() {
        let list = json!({"schemaVersion": 2, "manifests": [
            {"digest": "sha256:00", "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
            {"digest": "sha256:01", "platform": {"os": "windows", "architecture": "amd64", "os.version": "10.0.1"}},
        ]});
        let media_type = "application/vnd.docker.distribution.manifest.list.v2+json";
        assert_eq!(read_json(Some(media_type), &list), platforms(&["linux/arm64", "windows/amd64"]));
    }

    #[test]
    fn an_index_of_attestations_alone_runs_nowhere() {
        let index = json!({"manifests": [{"platform": {"os": "unknown", "architecture": "unknown"}}]});
        assert_eq!(read_json(Some(INDEX), &index), platforms(&[]));
    }

    #[test]
    fn a_single_manifest_does_not_name_its_platform() {
        let manifest = json!({"schemaVersion": 2, "config": {"digest": "sha256:00"}, "layers": []});
        assert_eq!(read_json(Some("application/vnd.oci.image.manifest.v1+json"), &manifest), Platforms::Single);
        assert_eq!(read_json(None, &manifest), Platforms::Single);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (media_type, body, expected) in [
            (None, "<html>", "not JSON"),
            (Some(INDEX), "{}", INDEX),
            (None, "[]", "neither"),
            (None, r#"{"manifests": {}}"#, "neither"),
            (Some(INDEX), r#"{"manifests": [{"digest": "sha256:00"}]}"#, "does not name the platform of every image"),
            (Some(INDEX), r#"{"manifests": [{"platform": {"os": "linux", "architecture": ""}}]}"#, "every image"),
        ] {
            let Platforms::Unknown(reason) = read(media_type, body) else { panic!("{body} was read") };
            assert!(reason.contains(expected), "{body}: {reason}");
        }
    }

    #[test]
    fn a_runtime_platform_is_what_the_task_needs() {
        for (family, cpu, expected) in [
            ("LINUX", "ARM64", "linux/arm64"),
            ("LINUX", "X86_64", "linux/amd64"),
            ("WINDOWS_SERVER_2022_CORE", "X86_64", "windows/amd64"),
        ] {
            let runtime_platform = json!({"operatingSystemFamily": family, "cpuArchitecture": cpu});
            let task_definition = json!({"runtimePlatform": runtime_platform, "requiresCompatibilities": ["EC2"]});
            assert_eq!(wanted_of(&task_definition), Wanted::Platform(platform(expected)));
        }
    }

    #[test]
    fn fargate_has_a_default_for_what_is_not_said() {
        for (runtime_platform, expected) in [
            (json!(null), "linux/amd64"),
            (json!({}), "linux/amd64"),
            (json!({"cpuArchitecture": "ARM64"}), "linux/arm64"),
            (json!({"operatingSystemFamily": "WINDOWS_SERVER_2019_FULL"}), "windows/amd64"),
        ] {
            let task_definition = json!({"runtimePlatform": runtime_platform, "requiresCompatibilities": ["FARGATE"]});
            assert_eq!(wanted_of(&task_definition), Wanted::Platform(platform(expected)));
        }
    }

    #[test]
    fn what_instances_have_is_not_known() {
        for task_definition in [
            json!({}),
            json!({"requiresCompatibilities": []}),
            json!({"requiresCompatibilities": ["EC2"]}),
            json!({"requiresCompatibilities": ["EC2", "FARGATE"]}),
            json!({"requiresCompatibilities": ["EC2"], "runtimePlatform": {"operatingSystemFamily": "LINUX"}}),
        ] {
            let Wanted::Unknown(reason) = wanted_of(&task_definition) else { panic!("{task_definition}") };
            assert!(reason.contains("runtimePlatform"), "{reason}");
        }
    }

    #[test]
    fn a_platform_of_tomorrow_is_not_guessed_at() {
        let task_definition =
            json!({"runtimePlatform": {"operatingSystemFamily": "LINUX", "cpuArchitecture": "RISCV64"}});
        let Wanted::Unknown(reason) = wanted_of(&task_definition) else { panic!("it was guessed at") };
        assert!(reason.contains("RISCV64"), "{reason}");
    }

    #[test]
    fn an_image_fits_lacks_the_platform_or_cannot_be_checked() {
        let arm = Wanted::Platform(platform("linux/arm64"));
        assert_eq!(check(&arm, &platforms(&["linux/amd64", "linux/arm64"])), Check::Fits);
        assert_eq!(
            check(&arm, &platforms(&["linux/amd64", "windows/arm64"])),
            Check::Lacks {
                wanted: platform("linux/arm64"),
                has: [platform("linux/amd64"), platform("windows/arm64")].into(),
            }
        );
        assert!(matches!(check(&arm, &Platforms::Single), Check::CannotTell(_)));
        assert_eq!(check(&arm, &Platforms::Unknown("gone".into())), Check::CannotTell("gone".into()));
        let unknown = Wanted::Unknown("any instance".into());
        assert_eq!(check(&unknown, &platforms(&["linux/arm64"])), Check::CannotTell("any instance".into()));
    }

    #[test]
    fn a_platform_is_written_as_docker_does() {
        assert_eq!(platform("linux/arm64").to_string(), "linux/arm64");
    }

    /// JSON that looks like a manifest and a task definition here and there, but for its types.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            "(linux|unknown|LINUX|FARGATE|.{0,8})".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let key = "(manifests|platform|os|architecture|annotations|config|runtimePlatform|cpuArchitecture\
                       |operatingSystemFamily|requiresCompatibilities|.{0,4})";
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(key, inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn never_panics(media_type in proptest::option::of(".{0,20}"), body in ".{0,60}", any in any_json()) {
            let _ignored = read(media_type.as_deref(), &body);
            let read = read_json(media_type.as_deref(), &any);
            if let Some(object) = any.as_object() {
                let _ignored = check(&wanted(object), &read);
            }
        }

        #[test]
        fn it_fits_exactly_where_a_child_has_the_platform(
            children in proptest::collection::vec(("(linux|windows)", "(amd64|arm64|s390x)"), 0..5),
            cpu in "(X86_64|ARM64)",
        ) {
            let manifests: Vec<Value> = children
                .iter()
                .map(|(os, architecture)| json!({"platform": {"os": os, "architecture": architecture}}))
                .collect();
            let read = read_json(Some(INDEX), &json!({"manifests": manifests}));
            let wanted = wanted_of(
                &json!({"runtimePlatform": {"operatingSystemFamily": "LINUX", "cpuArchitecture": cpu}}));
            let architecture = if cpu == "ARM64" { "arm64" } else { "amd64" };
            let expected = children.iter().any(|(os, a)| os == "linux" && a == architecture);
            prop_assert_eq!(check(&wanted, &read) == Check::Fits, expected);
        }
    }
}
