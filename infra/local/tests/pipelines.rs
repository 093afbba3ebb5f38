//! The pipelines of `infra/ci`, run step by step as their CI services run them, with stand-ins for Docker, AWS and the
//! network that write down what they are asked.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and then shows what was printed"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_yaml_ng::Value;
use tempfile::TempDir;

/// What each stand-in begins with: it writes its name and arguments down, one line for each call.
const NOTE: &str = r#"#!/usr/bin/env bash
printf '%s %s\n' "$(basename "$0")" "${*//$'\n'/ }" >>"$CALLS"
"#;

const DOCKER: &str = r#"
case "$1 $2" in
    build*) exit "$BUILD" ;;
    inspect*) echo true ;;
    "image inspect") cat "$BUILT" ;;
    login*) cat >/dev/null ;;
esac
"#;

/// The registry knows an image of the commit once it was pushed.
const AWS: &str = r#"
case "$2" in
    get-login-password) echo password ;;
    describe-repositories) echo 123456789012.dkr.ecr.eu-west-1.amazonaws.com/tides/web ;;
    describe-images) grep -q '^docker push' "$CALLS" ;;
    batch-get-image) printf 'sha256:4f53\tapplication/vnd.oci.image.index.v1+json\t{\n  "layers": []\n}\n' ;;
    put-image) [[ $AWS_ROLE_ARN && $(<"$AWS_WEB_IDENTITY_TOKEN_FILE") == an-identity ]] ;;
esac
"#;

/// The identity that GitHub hands out.
const CURL: &str = r#"
echo '{"value": "an-identity"}'
"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pipeline {
    GitHub,
    CircleCi,
}

const PIPELINES: [Pipeline; 2] = [Pipeline::GitHub, Pipeline::CircleCi];

/// A step: its commands, and the condition that it may have.
struct Step {
    condition: Option<String>,
    commands: String,
}

/// A checkout of a service on a CI machine.
struct Machine {
    folder: TempDir,
    pipeline: Pipeline,
    branch: String,
}

impl Machine {
    fn new(pipeline: Pipeline, branch: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let machine = Self { folder, pipeline, branch: branch.to_owned() };
        machine.script("bin/docker", &format!("{NOTE}{DOCKER}"));
        machine.script("bin/aws", &format!("{NOTE}{AWS}"));
        machine.script("bin/curl", &format!("{NOTE}{CURL}"));
        machine.script("service/ci/deliver", &fs::read_to_string(ci().join("deliver")).unwrap());
        machine.script("service/test", "#!/bin/sh\nexit 0\n");
        fs::write(machine.path("bash_env"), "").unwrap();
        fs::write(machine.path("calls"), "").unwrap();
        fs::write(machine.path("built"), "sha256:built\n").unwrap();
        for arguments in [
            &["init", "--quiet"][..],
            &["add", "."],
            &["-c", "user.name=ana", "-c", "user.email=ana@example.com", "commit", "--quiet", "--message", "Say hello"],
            &["tag", "1.42.0"],
        ] {
            let git = Command::new("git").args(arguments).current_dir(machine.path("service")).status();
            assert!(git.unwrap().success(), "{arguments:?}");
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn commit(&self) -> String {
        let output = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(self.path("service")).output();
        String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
    }

    /// What the stand-ins were asked, of a kind of call such as `docker push`.
    fn calls(&self, kind: &str) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap();
        calls.lines().filter(|call| call.starts_with(kind)).map(str::to_owned).collect()
    }

    /// The steps that the pipeline's file has, with the environment that it gives them.
    fn steps(&self) -> (Vec<Step>, Vec<(String, String)>) {
        match self.pipeline {
            Pipeline::GitHub => {
                let job = read("github-actions.yml")["jobs"]["deliver"].clone();
                let steps = job["steps"].as_sequence().unwrap().iter().filter(|step| step.get("uses").is_none());
                let steps = steps.map(|step| Step {
                    condition: step.get("if").map(|condition| condition.as_str().unwrap().to_owned()),
                    commands: step["run"].as_str().unwrap().to_owned(),
                });
                (steps.collect(), self.environment(&job["env"]))
            }
            Pipeline::CircleCi => {
                let job = read("circleci.yml")["jobs"]["deliver"].clone();
                let steps = job["steps"].as_sequence().unwrap().iter().filter(|step| *step != "checkout");
                let steps = steps.map(|step| {
                    let commands = step["run"]["command"].as_str().unwrap().to_owned();
                    assert!(step["run"].get("when").is_none(), "only what went well before lets a step run");
                    Step { condition: None, commands }
                });
                (steps.collect(), self.environment(&job["environment"]))
            }
        }
    }

    fn environment(&self, variables: &Value) -> Vec<(String, String)> {
        let fill = |text: &str| {
            let filled = text
                .replace("${{ github.ref_name }}", &self.branch)
                .replace("${{ github.server_url }}", "https://github.com")
                .replace("${{ github.repository }}", "tides/web")
                .replace("${{ vars.AWS_REGION }}", "eu-west-1")
                .replace("${{ vars.DELIVER_ROLE_ARN }}", "arn:aws:iam::123456789012:role/deliver");
            assert!(!filled.contains("${{"), "{filled}");
            filled
        };
        let variables = variables.as_mapping().unwrap().iter();
        variables.map(|(name, value)| (name.as_str().unwrap().to_owned(), fill(value.as_str().unwrap()))).collect()
    }

    /// Runs the pipeline until a step fails, as CI does. Whether none has.
    fn run(&self) -> bool {
        self.steps().0.iter().all(|step| self.step(step))
    }

    fn step(&self, step: &Step) -> bool {
        if let Some(condition) = &step.condition {
            assert_eq!(
                condition, "github.event_name == 'push'",
                "a condition that is always true would run after a failure"
            );
        }
        let mut bash = Command::new("bash");
        bash.args(["-eo", "pipefail", "-c", &step.commands]).current_dir(self.path("service"));
        bash.env_clear().envs(self.steps().1);
        bash.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.path("bin").display()));
        bash.env("HOME", self.folder.path()).env("TMPDIR", self.folder.path());
        bash.env("CALLS", self.path("calls")).env("BUILT", self.path("built"));
        bash.env("BUILD", if self.path("build-fails").exists() { "1" } else { "0" }).env("DELIVER_PAUSE", "0");
        match self.pipeline {
            Pipeline::GitHub => {
                bash.env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "runner");
                bash.env("ACTIONS_ID_TOKEN_REQUEST_URL", "https://example.com/token?version=2");
            }
            Pipeline::CircleCi => {
                bash.env("BASH_ENV", self.path("bash_env")).env("CIRCLE_BRANCH", &self.branch);
                bash.env("CIRCLE_PROJECT_USERNAME", "tides").env("CIRCLE_PROJECT_REPONAME", "web");
                bash.env("CIRCLE_OIDC_TOKEN_V2", "an-identity");
                // From the project's settings.
                bash.env("AWS_DEFAULT_REGION", "eu-west-1").env("ROLE_ARN", "arn:aws:iam::123456789012:role/deliver");
            }
        }
        let output = bash.output().unwrap();
        println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        output.status.success()
    }

    /// Nothing has left the machine, and nobody was asked for the right to.
    fn assert_nothing_was_pushed(&self) {
        for kind in ["docker push", "docker tag", "docker login", "aws", "curl"] {
            assert_eq!(self.calls(kind), Vec::<String>::new(), "{:?}", self.pipeline);
        }
    }
}

fn ci() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci")
}

fn read(name: &str) -> Value {
    serde_yaml_ng::from_str(&fs::read_to_string(ci().join(name)).unwrap()).unwrap()
}

#[test]
fn what_was_tested_is_pushed_and_gets_the_tag_of_its_branch() {
    for (branch, tag) in [("develop", "develop"), ("master", "master"), ("main", "master")] {
        for pipeline in PIPELINES {
            let machine = Machine::new(pipeline, branch);
            assert!(machine.run(), "{pipeline:?}");
            let image = format!("123456789012.dkr.ecr.eu-west-1.amazonaws.com/tides/web:sha-{}", machine.commit());
            assert_eq!(machine.calls("docker push"), [format!("docker push {image}")]);
            let put = machine.calls("aws ecr put-image");
            assert_eq!(put.len(), 1);
            assert!(put[0].contains(&format!("--image-tag {tag} --image-digest sha256:4f53 ")), "{put:?}");
            // To the byte: the registry compares it with the digest.
            assert!(put[0].ends_with(r#"--image-manifest {   "layers": [] }"#), "{put:?}");
            let order: Vec<_> =
                ["docker build", "docker run", "docker rm", "docker login", "docker push", "aws ecr put-image"]
                    .map(|kind| {
                        fs::read_to_string(machine.path("calls")).unwrap().find(&format!("\n{kind}")).or_else(|| {
                            fs::read_to_string(machine.path("calls")).unwrap().starts_with(kind).then_some(0)
                        })
                    })
                    .into_iter()
                    .collect::<Option<_>>()
                    .unwrap();
            assert!(order.is_sorted(), "{order:?}");
        }
    }
}

#[test]
fn a_failing_test_never_pushes() {
    for pipeline in PIPELINES {
        let machine = Machine::new(pipeline, "develop");
        machine.script("service/test", "#!/bin/sh\nexit 1\n");
        assert!(!machine.run(), "{pipeline:?}");
        assert_eq!(machine.calls("docker build").len(), 1, "it was built");
        assert_eq!(machine.calls("docker rm").len(), 1, "and taken away");
        machine.assert_nothing_was_pushed();
    }
}

#[test]
fn a_failing_build_never_pushes() {
    for pipeline in PIPELINES {
        let machine = Machine::new(pipeline, "master");
        fs::write(machine.path("build-fails"), "").unwrap();
        assert!(!machine.run(), "{pipeline:?}");
        assert_eq!(machine.calls("docker run"), Vec::<String>::new());
        machine.assert_nothing_was_pushed();
    }
}

/// Somebody gives the last step `if: always()`, or runs it by hand.
#[test]
fn a_push_out_of_order_is_refused() {
    for pipeline in PIPELINES {
        let machine = Machine::new(pipeline, "develop");
        let (steps, _) = machine.steps();
        let (push, before) = steps.split_last().unwrap();
        machine.script("service/test", "#!/bin/sh\nexit 1\n");
        let went_well = before.iter().filter(|step| machine.step(step)).count();
        assert_eq!(went_well, before.len() - 1, "only the test has failed");
        assert!(!machine.step(push), "{pipeline:?}");
        assert_eq!(machine.calls("docker push"), Vec::<String>::new());
        assert_eq!(machine.calls("aws"), Vec::<String>::new());
    }
}

#[test]
fn what_was_built_after_the_test_is_refused() {
    for pipeline in PIPELINES {
        let machine = Machine::new(pipeline, "develop");
        let (steps, _) = machine.steps();
        let (push, before) = steps.split_last().unwrap();
        assert!(before.iter().all(|step| machine.step(step)), "{pipeline:?}");
        fs::write(machine.path("built"), "sha256:another\n").unwrap();
        assert!(!machine.step(push), "{pipeline:?}");
        assert_eq!(machine.calls("docker push"), Vec::<String>::new());
    }
}

#[test]
fn other_branches_are_tested_and_not_pushed() {
    for (pipeline, branch) in
        [(Pipeline::GitHub, "12/merge"), (Pipeline::CircleCi, "pull/12"), (Pipeline::CircleCi, "fix")]
    {
        let machine = Machine::new(pipeline, branch);
        assert!(machine.run(), "{branch}");
        assert_eq!(machine.calls("docker run").len(), 1, "it was tested");
        assert_eq!(machine.calls("docker push"), Vec::<String>::new());
        assert_eq!(machine.calls("aws"), Vec::<String>::new());
    }
}

/// A commit is one image, whatever tags it gets: a merge without a commit of its own promotes what was tested before.
#[test]
fn what_the_registry_has_is_not_pushed_again() {
    let machine = Machine::new(Pipeline::CircleCi, "develop");
    assert!(machine.run());
    let machine = Machine { branch: "master".into(), ..machine };
    fs::write(machine.path("bash_env"), "").unwrap();
    assert!(machine.run());
    assert_eq!(machine.calls("docker push").len(), 1);
    let tags: Vec<_> = machine.calls("aws ecr put-image");
    assert!(tags[0].contains("--image-tag develop ") && tags[1].contains("--image-tag master "), "{tags:?}");
}

/// Whoever may open a pull request names its branch.
#[test]
fn the_name_of_a_branch_is_no_command() {
    for pipeline in PIPELINES {
        let machine = Machine::new(pipeline, "x;touch${IFS}owned;`touch owned`$(touch owned)");
        assert!(machine.run(), "{pipeline:?}");
        assert!(!machine.path("service/owned").exists(), "{pipeline:?}");
        assert_eq!(machine.calls("docker push"), Vec::<String>::new());
    }
}

/// The labels that Tidegate reads are those that the pipelines set.
#[test]
fn the_image_says_where_it_comes_from() {
    let reader = fs::read_to_string(ci().join("../../shared/src/provenance.rs")).unwrap();
    for pipeline in PIPELINES {
        let machine = Machine::new(pipeline, "develop");
        assert!(machine.run());
        let build = machine.calls("docker build").remove(0);
        let labels: Vec<_> =
            build.split(" --label ").skip(1).map(|label| label.split([' ', '=']).next().unwrap()).collect();
        for label in &labels {
            assert!(reader.contains(&format!("\"{label}\"")), "Tidegate does not read {label}");
        }
        assert_eq!(labels.len(), 5, "{labels:?}");
        for value in [
            format!("org.opencontainers.image.revision={} ", machine.commit()),
            "org.opencontainers.image.source=https://github.com/tides/web ".to_owned(),
            "org.opencontainers.image.version=1.42.0 ".to_owned(),
        ] {
            assert!(build.contains(&value), "{build}");
        }
    }
}

/// No key of AWS is kept anywhere: the role is taken by the pipeline's own identity, and only from where images are pushed.
#[test]
fn the_role_is_for_the_branches_that_are_pushed() {
    let role = fs::read_to_string(ci().join("role.yaml")).unwrap();
    assert!(role.contains("Default: develop,master,main"));
    for name in ["github-actions.yml", "circleci.yml", "deliver"] {
        let text = fs::read_to_string(ci().join(name)).unwrap();
        for key in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "${{ secrets"] {
            assert!(!text.contains(key), "{name} has {key}");
        }
    }
    let Value::Mapping(permissions) = &read("github-actions.yml")["permissions"] else {
        panic!("permissions of all jobs")
    };
    assert!(permissions.is_empty(), "what a job may do stands with the job");
}
