//! What the pages for people name is there: files and headings, functions and alarms, outputs and parameters; and the
//! events that they tell people to send can be read.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_yaml_ng::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Every page of the repository, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".md") {
                found.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.len() > 10, "{found:?}");
    found
}

/// The headings of a page, as the ends of links to them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let words = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = words.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn every_link_within_the_repository_leads_somewhere() {
    let mut checked = 0;
    for (page, text) in pages() {
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            // What is made by a test or stands in an example is no link; those have no slash and no dot, or a scheme.
            if link.contains("://") || link.contains([' ', '$', '{']) {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", page.display());
            if !anchor.is_empty() {
                let headings = anchors(&fs::read_to_string(&target).unwrap());
                assert!(headings.contains(anchor), "{}: {link}, of {headings:?}", page.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} links were found");
}

/// The texts in single quotes that follow an option of a command.
fn given<'a>(text: &'a str, option: &'a str) -> impl Iterator<Item = &'a str> {
    let start = format!("{option} '");
    text.match_indices(&start).map(|(at, _)| at + start.len()).collect::<Vec<_>>().into_iter().map(|from| {
        let rest = text.get(from..).unwrap();
        rest.split('\'').next().unwrap()
    })
}

#[test]
fn the_events_that_people_send_are_those_that_functions_read() {
    let mut sent = BTreeSet::new();
    for (page, text) in pages() {
        for payload in given(&text, "--payload").filter(|payload| payload.starts_with('{')) {
            let event: Value = serde_yaml_ng::from_str(payload).unwrap();
            assert_eq!(event["source"], "tidegate", "{}: {payload}", page.display());
            sent.insert(event["detail-type"].as_str().unwrap().to_owned());
        }
        for entries in given(&text, "--entries") {
            let entries: Value = serde_yaml_ng::from_str(entries).unwrap();
            let entry = &entries[0];
            assert_eq!(entry["Source"], "tidegate", "{}", page.display());
            let detail: Value = serde_yaml_ng::from_str(entry["Detail"].as_str().unwrap()).unwrap();
            assert_eq!(detail["service"], "production/web", "a cluster and a name: {}", page.display());
            sent.insert(entry["DetailType"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(sent.into_iter().collect::<Vec<_>>(), ["Explain", "Release", "Report", "Rollback"]);
}

#[test]
fn the_names_in_the_pages_are_those_of_the_stack() {
    let text = fs::read_to_string(root().join("infra/template.yaml")).unwrap();
    let template: Value = serde_yaml_ng::from_str(&text).unwrap();
    let parameters = template["Parameters"].as_mapping().unwrap();
    let mut named = 0;
    for (page, page_text) in pages() {
        for word in page_text.split(|c: char| c.is_whitespace() || ['`', '"', '\'', ',', '(', ')'].contains(&c)) {
            let word = word.trim_end_matches(['.', ':', ';']);
            let is_name = word.starts_with("tidegate-") && word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            // The names of roles, tables and files begin alike.
            if is_name && page.starts_with(root().join("infra/docs")) {
                let exists = ["FunctionName", "AlarmName", "QueueName"]
                    .iter()
                    .any(|kind| text.contains(&format!("{kind}: {word}\n")));
                assert!(exists, "{}: {word}", page.display());
                named += 1;
            }
        }
        for line in page_text.lines().filter(|line| line.contains("--stack-name tidegate ")) {
            let overrides = line.split_once("--parameter-overrides ").map(|(_, pairs)| pairs).unwrap_or_default();
            for (name, _) in overrides.split(' ').filter_map(|pair| pair.split_once('=')) {
                assert!(parameters.contains_key(name), "{}: {name}", page.display());
                named += 1;
            }
        }
    }
    assert!(named > 10, "only {named} names were found");
}
