//! A release, as `.ci/package` makes it, of stand-ins for the binaries: the same files from the same binaries, and a
//! template that needs nothing but them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_yaml_ng::Value;
use sha2::{Digest as _, Sha256};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn functions() -> Vec<String> {
    let folders = fs::read_dir(root().join("functions")).unwrap();
    let mut names: Vec<_> = folders.map(|folder| folder.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Stand-ins for what cargo-lambda builds.
fn binaries(folder: &Path) {
    for function in functions() {
        fs::create_dir_all(folder.join(&function)).unwrap();
        fs::write(folder.join(&function).join("bootstrap"), format!("this is {function}\n")).unwrap();
    }
}

fn package(arguments: &[&str]) -> Output {
    Command::new("python3").arg(root().join(".ci/package")).args(arguments).output().unwrap()
}

/// Makes a release of one architecture, and returns its files.
fn release(architecture: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let (binary, out) = (folder.path().join("binaries"), folder.path().join("out"));
    binaries(&binary);
    let output = package(&[architecture, "--binaries", binary.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = fs::read_dir(out.join(format!("package-{architecture}"))).unwrap().map(Result::unwrap);
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

#[test]
fn the_same_binaries_give_the_same_release() {
    // Made at another time, in another folder.
    assert_eq!(release("arm64"), release("arm64"));
}

#[test]
fn every_function_is_in_a_zip_of_its_own() {
    let release = release("x86_64");
    let mut expected: Vec<_> = functions().iter().map(|function| format!("{function}.zip")).collect();
    expected.extend(["SHA256SUMS".to_owned(), "template.yaml".to_owned()]);
    expected.sort();
    assert_eq!(release.keys().cloned().collect::<Vec<_>>(), expected);
    let folder = tempfile::tempdir().unwrap();
    for function in functions() {
        let zip = &release[&format!("{function}.zip")];
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(zip)).unwrap();
        assert_eq!(archive.len(), 1);
        let entry = archive.by_index_raw(0).unwrap();
        assert_eq!(entry.name().unwrap(), "bootstrap");
        assert_eq!(entry.unix_mode().map(|mode| mode & 0o777), Some(0o755), "Lambda must be able to start it");
        let path = folder.path().join(format!("{function}.zip"));
        fs::write(&path, zip).unwrap();
        let unzip = Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&path).arg(folder.path()).status();
        assert!(unzip.unwrap().success());
        assert_eq!(fs::read_to_string(folder.path().join("bootstrap")).unwrap(), format!("this is {function}\n"));
    }
}

#[test]
fn the_checksums_are_those_of_all_files() {
    let release = release("arm64");
    let sums = String::from_utf8(release["SHA256SUMS"].clone()).unwrap();
    let expected: Vec<String> = release
        .iter()
        .filter(|(name, _)| *name != "SHA256SUMS")
        .map(|(name, content)| {
            let digest: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{digest}  {name}")
        })
        .collect();
    assert_eq!(sums.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn the_template_needs_no_build() {
    for architecture in ["arm64", "x86_64"] {
        let release = release(architecture);
        let template: Value = serde_yaml_ng::from_slice(&release["template.yaml"]).unwrap();
        let parameter = &template["Parameters"]["Architecture"];
        assert_eq!(parameter["Default"], architecture);
        assert_eq!(parameter["AllowedValues"], serde_yaml_ng::from_str::<Value>(&format!("[{architecture}]")).unwrap());
        let resources = template["Resources"].as_mapping().unwrap().values();
        let all: Vec<_> = resources.filter(|resource| resource["Type"] == "AWS::Serverless::Function").collect();
        let mut named: Vec<_> = all.iter().map(|it| it["Properties"]["CodeUri"].as_str().unwrap().to_owned()).collect();
        named.sort();
        assert_eq!(named, functions().iter().map(|function| format!("{function}.zip")).collect::<Vec<_>>());
        assert!(all.iter().all(|function| function.get("Metadata").is_none()), "nothing tells SAM to build");
        for (function, name) in all.iter().zip(&named) {
            assert!(release.contains_key(name), "{function:?}");
        }
    }
}

#[test]
fn what_it_cannot_make_it_says() {
    for (arguments, said) in [
        (&["mips"][..], "mips is no architecture of Lambda; use arm64 or x86_64"),
        (&["--binaries", "."], "--binaries needs the one architecture that they were built for"),
    ] {
        let output = package(arguments);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{output:?}");
    }
}
