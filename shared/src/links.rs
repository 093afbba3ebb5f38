//! Where people go on from a deployment: AWS's console, the commit, what has changed since the last one, the log.
//!
//! Pure: a record goes in, and addresses come out. Whatever the record holds, each is https, and nothing in it breaks
//! out of its part of the address. What is not known for certain gets no link.

use serde::{Deserialize, Serialize};

use crate::diagnosis::LogTail;
use crate::provenance::{Forge, Provenance, revision, web_address};
use crate::record::{Link, Origin, Record};

/// A longer link is none: Slack takes 3,000 characters for a whole text.
const LINK_CHARS_MAX: usize = 2000;

/// The links of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Links {
    /// The service's deployments in the console of Amazon ECS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
    /// The commit that the image was built of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// What has changed from the commit that ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<String>,
    /// The log of the container that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<String>,
    /// The message about the deployment that it takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad: Option<String>,
    /// The message about the deployment that brings a good release back in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<String>,
}

impl Links {
    /// The links of `record`.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let console = Console::of(record);
        let log = record.diagnosis.as_ref().and_then(|diagnosis| diagnosis.log.as_ref());
        let commit = record.provenance.as_ref().and_then(Commit::of);
        let commit_from = record.provenance_from.as_ref().and_then(Commit::of);
        let short = |link: &String| link.len() <= LINK_CHARS_MAX;
        // Of a way back it is told what it takes back.
        let (from, to) = match record.origin {
            Origin::Rollback => (commit.as_ref(), commit_from.as_ref()),
            _ => (commit_from.as_ref(), commit.as_ref()),
        };
        Self {
            console: console.as_ref().and_then(|console| console.service(record)).filter(short),
            logs: console.as_ref().zip(log).and_then(|(console, log)| console.log(log)).filter(short),
            compare: to.zip(from).and_then(|(to, from)| to.compare(from)).filter(short),
            commit: commit.as_ref().map(Commit::page).filter(short),
            bad: record.link_to_bad.as_ref().and_then(message).filter(short),
            recovery: record.link_to_recovery.as_ref().and_then(message).filter(short),
        }
    }
}

/// A message in Slack, whatever the workspace: Slack leads on to it.
fn message(link: &Link) -> Option<String> {
    let (channel, ts) = (link.slack_channel.as_deref()?, link.slack_ts.as_deref()?);
    let (seconds, fraction) = ts.split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_id = !channel.is_empty() && channel.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (is_id && is_number(seconds) && is_number(fraction))
        .then(|| format!("https://slack.com/archives/{channel}/p{seconds}{fraction}"))
}

/// The console of one Region.
struct Console {
    host: &'static str,
    region: String,
}

impl Console {
    /// The console of a service's Region. Each
    /// [partition](https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html) has
    /// its own; those that are not on the internet have none for us.
    fn of(record: &Record) -> Option<Self> {
        let host = match record.service_arn.split(':').nth(1)? {
            "aws" => "console.aws.amazon.com",
            "aws-cn" => "console.amazonaws.cn",
            "aws-us-gov" => "console.amazonaws-us-gov.com",
            "aws-eusc" => "console.amazonaws-eusc.eu",
            _ => return None,
        };
        let (region, _) = record.service_ref().home().ok()?;
        Some(Self { host, region: encoded(&region) })
    }

    fn service(&self, record: &Record) -> Option<String> {
        let Self { host, region } = self;
        // The record's, because old ARNs don't name the cluster.
        let (cluster, service) = (encoded(&record.cluster), encoded(&record.service));
        (!cluster.is_empty() && !service.is_empty())
            .then(|| format!("https://{host}/ecs/v2/clusters/{cluster}/services/{service}/deployments?region={region}"))
    }

    /// The stream, or the group where no stream is known. The console keeps where it is behind the `#`, with every name
    /// encoded twice and `$` for `%`.
    fn log(&self, log: &LogTail) -> Option<String> {
        let Self { host, region } = self;
        let twice = |name: &str| encoded(&encoded(name)).replace('%', "$");
        let stream = match log.stream.as_str() {
            "" => String::new(),
            stream => format!("/log-events/{}", twice(stream)),
        };
        (!log.group.is_empty()).then(|| {
            let group = twice(&log.group);
            format!("https://{host}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/{group}{stream}")
        })
    }
}

/// A commit on a forge that we know.
struct Commit {
    forge: Forge,
    source: String,
    revision: String,
}

impl Commit {
    /// Both parts are looked at again: a record may be older than what we now ask of them.
    fn of(provenance: &Provenance) -> Option<Self> {
        let source = web_address(provenance.source.as_deref()?)?;
        let revision = revision(provenance.revision.as_deref()?)?;
        Some(Self { forge: Forge::of(&source)?, source, revision })
    }

    fn page(&self) -> String {
        let Self { forge, source, revision } = self;
        match forge {
            Forge::GitHub => format!("{source}/commit/{revision}"),
            Forge::GitLab => format!("{source}/-/commit/{revision}"),
            Forge::Bitbucket => format!("{source}/commits/{revision}"),
        }
    }

    /// From `before` to this, in one repository. An abbreviated name may be that of the same commit, and of the same
    /// there is nothing to compare.
    fn compare(&self, before: &Self) -> Option<String> {
        let Self { forge, source, revision: to } = self;
        let from = &before.revision;
        let is_same = from.starts_with(to.as_str()) || to.starts_with(from.as_str());
        (*source == before.source && !is_same).then(|| match forge {
            Forge::GitHub => format!("{source}/compare/{from}...{to}"),
            Forge::GitLab => format!("{source}/-/compare/{from}...{to}"),
            // The newer one first, with a line break between them: that is how its own pages link.
            Forge::Bitbucket => format!("{source}/branches/compare/{to}%0D{from}"),
        })
    }
}

/// Encodes all but the [unreserved characters](https://www.rfc-editor.org/rfc/rfc3986#section-2.3), for any part of an
/// address.
pub(crate) fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Diagnosis;
    use crate::record::State;
    use crate::record::tests::record;
    use proptest::prelude::*;

    const OLD: &str = "9a1f0c4b5e6d7c8b9a0f1e2d3c4b5a6978879695";
    const NEW: &str = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d";

    fn provenance(source: &str, revision: &str) -> Option<Provenance> {
        Some(Provenance { source: Some(source.into()), revision: Some(revision.into()), ..Provenance::default() })
    }

    fn logged(group: &str, stream: &str) -> Option<Diagnosis> {
        let log = LogTail { group: group.into(), stream: stream.into(), ..LogTail::default() };
        Some(Diagnosis { log: Some(log), ..Diagnosis::default() })
    }

    fn links(from: Option<Provenance>, to: Option<Provenance>) -> Links {
        Links::of(&Record { provenance_from: from, provenance: to, ..record(State::Rolling) })
    }

    #[test]
    fn the_console_is_that_of_the_partition_and_the_region() {
        for (service_arn, expected) in [
            (
                "arn:aws:ecs:eu-west-1:123456789012:service/production/web",
                Some(("console.aws.amazon.com", "eu-west-1")),
            ),
            ("arn:aws:ecs:eu-west-1:123456789012:service/web", Some(("console.aws.amazon.com", "eu-west-1"))),
            ("arn:aws-cn:ecs:cn-north-1:123456789012:service/x/y", Some(("console.amazonaws.cn", "cn-north-1"))),
            (
                "arn:aws-us-gov:ecs:us-gov-west-1:123456789012:service/x/y",
                Some(("console.amazonaws-us-gov.com", "us-gov-west-1")),
            ),
            (
                "arn:aws-eusc:ecs:eusc-de-east-1:123456789012:service/x/y",
                Some(("console.amazonaws-eusc.eu", "eusc-de-east-1")),
            ),
            ("arn:aws-iso:ecs:us-iso-east-1:123456789012:service/x/y", None),
            ("arn:aws:ecs::123456789012:service/x/y", None),
            ("web", None),
            ("", None),
        ] {
            let links = Links::of(&Record { service_arn: service_arn.into(), ..record(State::Rolling) });
            let expected = expected.map(|(host, region)| {
                format!("https://{host}/ecs/v2/clusters/production/services/web/deployments?region={region}")
            });
            assert_eq!(links, Links { console: expected, ..Links::default() }, "{service_arn}");
        }
    }

    #[test]
    fn the_log_is_found_in_cloudwatch() {
        let home = "https://console.aws.amazon.com/cloudwatch/home?region=eu-west-1#logsV2:log-groups/log-group";
        for (group, stream, expected) in [
            ("/ecs/web", "web/app/4f53cda18c2b", "/$252Fecs$252Fweb/log-events/web$252Fapp$252F4f53cda18c2b"),
            ("web", "2026/11/16/[$LATEST]4f53", "/web/log-events/2026$252F11$252F16$252F$255B$2524LATEST$255D4f53"),
            ("/ecs/web", "", "/$252Fecs$252Fweb"),
        ] {
            let links = Links::of(&Record { diagnosis: logged(group, stream), ..record(State::Failed) });
            assert_eq!(links.logs, Some(format!("{home}{expected}")));
        }
        for (group, stream) in [("", "web/app/4f53"), ("/ecs/web", &*"é".repeat(500))] {
            let links = Links::of(&Record { diagnosis: logged(group, stream), ..record(State::Failed) });
            assert_eq!(links.logs, None);
        }
    }

    #[test]
    fn each_forge_has_its_own_pages() {
        for (source, commit, compare) in [
            ("https://github.com/tides/web", "/commit/{new}", "/compare/{old}...{new}"),
            ("https://github.example.com/tides/web", "/commit/{new}", "/compare/{old}...{new}"),
            ("https://gitlab.com/tides/shore/web", "/-/commit/{new}", "/-/compare/{old}...{new}"),
            ("https://gitlab.example.com:8443/tides/web", "/-/commit/{new}", "/-/compare/{old}...{new}"),
            ("https://bitbucket.org/tides/web", "/commits/{new}", "/branches/compare/{new}%0D{old}"),
        ] {
            let links = links(provenance(source, OLD), provenance(source, NEW));
            let expected = |path: &str| Some(format!("{source}{}", path.replace("{old}", OLD).replace("{new}", NEW)));
            assert_eq!((links.commit, links.compare), (expected(commit), expected(compare)));
        }
    }

    #[test]
    fn of_an_unknown_forge_nothing_is_guessed() {
        for source in ["https://git.example.com/tides/web", "https://github.com/tides", "http://github.com/tides/web"] {
            let links = links(provenance(source, OLD), provenance(source, NEW));
            assert_eq!((links.commit, links.compare), (None, None), "{source}");
        }
    }

    #[test]
    fn only_two_commits_of_one_repository_are_compared() {
        let (web, api) = ("https://github.com/tides/web", "https://github.com/tides/api");
        for from in [
            None,
            provenance(api, OLD),
            provenance(web, "master"),
            provenance(web, NEW),
            provenance(web, "4F53CDA"),
            Some(Provenance { revision: Some(OLD.into()), ..Provenance::default() }),
            Some(Provenance { source: Some(web.into()), ..Provenance::default() }),
        ] {
            let links = links(from, provenance(web, NEW));
            assert_eq!(links.commit, Some(format!("{web}/commit/{NEW}")));
            assert_eq!(links.compare, None);
        }
        assert_eq!(links(provenance(web, OLD), None).compare, None);
    }

    #[test]
    fn a_way_back_is_compared_by_what_it_takes_back() {
        let web = "https://github.com/tides/web";
        let back = Record {
            origin: Origin::Rollback,
            provenance_from: provenance(web, NEW),
            provenance: provenance(web, OLD),
            ..record(State::Rolling)
        };
        let links = Links::of(&back);
        assert_eq!(links.commit, Some(format!("{web}/commit/{OLD}")));
        assert_eq!(links.compare, Some(format!("{web}/compare/{OLD}...{NEW}")));
    }

    fn link_to(channel: Option<&str>, ts: Option<&str>) -> Option<Link> {
        let (slack_channel, slack_ts) = (channel.map(str::to_owned), ts.map(str::to_owned));
        Some(Link { state: State::Rolling, reason: String::new(), live_at: None, slack_channel, slack_ts })
    }

    #[test]
    fn a_message_has_an_address_where_it_is_known() {
        let address = |channel, ts| {
            let (link_to_bad, link_to_recovery) = (link_to(channel, ts), link_to(channel, ts));
            let links = Links::of(&Record { link_to_bad, link_to_recovery, ..record(State::Rolling) });
            assert_eq!(links.bad, links.recovery);
            links.bad
        };
        let known = address(Some("C0123456789"), Some("1794822877.000100"));
        assert_eq!(known.as_deref(), Some("https://slack.com/archives/C0123456789/p1794822877000100"));
        for (channel, ts) in [
            (None, Some("1794822877.000100")),
            (Some("C0123456789"), None),
            (Some("webhook"), Some("webhook")),
            (Some("#deployments"), Some("1794822877.000100")),
            (Some("C0123456789"), Some("1794822877.")),
            (Some("C0123456789"), Some("../1.2")),
            (Some(""), Some("1.2")),
        ] {
            assert_eq!(address(channel, ts), None, "{channel:?} {ts:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_written() {
        let links = Links { commit: Some("https://github.com/tides/web/commit/4f53cda".into()), ..Links::default() };
        let written = serde_json::json!({"commit": "https://github.com/tides/web/commit/4f53cda"});
        assert_eq!(serde_json::to_value(&links).unwrap(), written);
        assert_eq!(serde_json::from_value::<Links>(written).unwrap(), links);
    }

    /// What is at the end of a link, taken apart as a browser does.
    fn parts(link: &str) -> (&str, &str, Option<&str>, Option<&str>) {
        let (rest, fragment) = link.split_once('#').map_or((link, None), |(rest, fragment)| (rest, Some(fragment)));
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (host, path) = rest.strip_prefix("https://").unwrap().split_once('/').unwrap();
        (host, path, query, fragment)
    }

    proptest! {
        #[test]
        fn whatever_the_record_holds_the_links_are_addresses(
            region in "(eu-west-1|\\PC{1,10}|[/?#&=%@.]{1,5})", cluster in "[a-z/?#&=%@.]{0,10}|.{0,20}",
            source in "https://(github.com/tides/web|gitlab.com/a|\\PC{0,9})[\\w/?#&=%@.|<>-]{0,20}",
            revision in "([0-9a-f]{40}|.{0,20})", any in ".{0,300}",
        ) {
            let arn = format!("arn:aws:ecs:{region}:123456789012:service/x/y");
            let links = Links::of(&Record {
                service_arn: arn, service: any.clone(), cluster, diagnosis: logged(&any, &any),
                provenance: provenance(&source, &revision), provenance_from: provenance(&source, OLD),
                link_to_bad: link_to(Some(&any), Some(&any)), link_to_recovery: link_to(Some(&any), Some("1.2")),
                ..record(State::Failed)
            });
            let Links { console, commit, compare, logs, bad, recovery } = links;
            for link in [&console, &commit, &compare, &logs, &bad, &recovery].into_iter().flatten() {
                prop_assert!(link.len() <= LINK_CHARS_MAX);
                let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#=%$+".contains(&byte);
                prop_assert!(link.starts_with("https://") && link.bytes().all(safe), "{link}");
                for escape in link.split('%').skip(1) {
                    prop_assert!(escape.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2, "{link}");
                }
            }
            if let Some(console) = &console {
                let (host, path, query, fragment) = parts(console);
                prop_assert_eq!((host, fragment), ("console.aws.amazon.com", None));
                prop_assert_eq!((path.split('/').count(), query.unwrap().matches('=').count()), (7, 1));
            }
            if let Some(logs) = &logs {
                let (host, path, _, fragment) = parts(logs);
                prop_assert_eq!((host, path), ("console.aws.amazon.com", "cloudwatch/home"));
                prop_assert_eq!(fragment.unwrap().split('/').count(), 5);
            }
            for link in [&commit, &compare].into_iter().flatten() {
                let (_, path, query, fragment) = parts(link);
                prop_assert_eq!((query, fragment), (None, None));
                prop_assert!(!path.split('/').any(|name| matches!(name, "" | "." | "..")), "{link}");
            }
        }
    }
}
