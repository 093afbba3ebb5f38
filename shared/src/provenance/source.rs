//! Web addresses of source repositories, made of what builds write for `org.opencontainers.image.source`.
//!
//! That may be anything `git clone` takes, even with a token in it. What comes out is what a browser may open: https, a
//! host, a path of plain names, and nothing else.

/// More than any forge allows for the whole path.
const ADDRESS_CHARS_MAX: usize = 500;

/// The web sites of which we know what their addresses look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forge {
    /// GitHub, in the cloud or self-hosted.
    GitHub,
    /// GitLab, in the cloud or self-hosted.
    GitLab,
    /// Bitbucket in the cloud. The self-hosted one has other paths.
    Bitbucket,
}

impl Forge {
    /// Which one is at `host`, which is in small letters. A forge of one's own is only known by a name that begins with
    /// what it is: of others, a link would be a guess.
    fn at(host: &str) -> Option<Self> {
        let name = host.split_once(':').map_or(host, |(name, _)| name);
        match name {
            "bitbucket.org" => Some(Self::Bitbucket),
            // GitHub Enterprise Cloud with data residency is at <name>.ghe.com.
            name if name.starts_with("github.") || name.ends_with(".ghe.com") => Some(Self::GitHub),
            name if name.starts_with("gitlab.") => Some(Self::GitLab),
            _ => None,
        }
    }

    /// Which one an address that [`web_address`] made leads to.
    pub(crate) fn of(address: &str) -> Option<Self> {
        let (host, path) = address.strip_prefix("https://")?.split_once('/')?;
        // A repository has an owner on all of them.
        Self::at(host).filter(|_| path.contains('/'))
    }
}

/// The web address of the repository that `source` names; `None` where it names none, or not plainly. Only https is
/// taken as it is, and git's and ssh's addresses become https: what else there is would not be opened by a browser, or
/// not safely.
pub(crate) fn web_address(source: &str) -> Option<String> {
    let source = source.trim();
    // Behind these is a branch, a folder, or something that a token passes in; never the repository.
    let source = source.split_once(['?', '#']).map_or(source, |(before, _)| before);
    let (authority, path, is_web) = match source.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/')?;
            match scheme.to_ascii_lowercase().as_str() {
                "https" | "git+https" => (authority, path, true),
                "ssh" | "git" | "git+ssh" => (authority, path, false),
                _ => return None,
            }
        }
        // As ssh and scp write it: git@github.com:tides/web.git
        None => {
            source.split_once(':').filter(|(host, _)| host.contains('@')).map(|(host, path)| (host, path, false))?
        }
    };
    // Before the last @ are a user and a password.
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_ascii_lowercase();
    let host = match host.split_once(':') {
        Some((name, port)) if is_port(port) && is_host(name) => {
            if is_web {
                &host
            } else {
                name
            }
        }
        None if is_host(&host) => &host,
        _ => return None,
    };
    let path = repository(Forge::at(host), path)?;
    Some(format!("https://{host}/{path}")).filter(|address| address.len() <= ADDRESS_CHARS_MAX)
}

/// The path of the repository, without what is below it.
fn repository(forge: Option<Forge>, path: &str) -> Option<String> {
    let names = path.split('/').filter(|name| !name.is_empty());
    let names: Vec<&str> = match forge {
        // Always owner and repository; below are /tree/<branch>/…, /blob/… and others.
        Some(Forge::GitHub | Forge::Bitbucket) => names.take(2).collect(),
        // In GitLab, wherever it may be, groups nest; what is not of a group or a repository is below /-/.
        Some(Forge::GitLab) | None => names.take_while(|name| *name != "-").collect(),
    };
    let path = names.join("/");
    let path = path.trim_end_matches(".git");
    let is_name = |name: &str| !matches!(name, "" | "." | ".." | "-") && name.bytes().all(is_of_name);
    path.split('/').all(is_name).then(|| path.to_owned())
}

/// What the names of repositories and their owners are made of on the forges we know. All of it may stand in a URL.
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~+".contains(&byte)
}

fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        let of_host = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && !label.starts_with('-') && label.bytes().all(of_host)
    };
    name.split('.').all(is_label)
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whatever_git_clones_becomes_what_a_browser_opens() {
        for (source, expected) in [
            ("https://github.com/tides/web", "https://github.com/tides/web"),
            ("https://github.com/tides/web.git", "https://github.com/tides/web"),
            (" https://github.com/tides/web/ ", "https://github.com/tides/web"),
            ("HTTPS://GitHub.com/Tides/Web", "https://github.com/Tides/Web"),
            ("git@github.com:tides/web.git", "https://github.com/tides/web"),
            ("git@gitlab.example.com:/tides/shore/web.git", "https://gitlab.example.com/tides/shore/web"),
            ("ssh://git@github.com/tides/web.git", "https://github.com/tides/web"),
            ("git+ssh://git@github.com/tides/web.git", "https://github.com/tides/web"),
            ("git://github.com/tides/web", "https://github.com/tides/web"),
            // The port of ssh is not that of the web site, which keeps its own.
            ("ssh://git@gitlab.example.com:2222/tides/web.git", "https://gitlab.example.com/tides/web"),
            ("https://gitlab.example.com:8443/tides/web", "https://gitlab.example.com:8443/tides/web"),
            // What CI clones with.
            ("https://x-access-token:ghs_0123456789@github.com/tides/web.git", "https://github.com/tides/web"),
            ("https://gitlab-ci-token:p@ss@gitlab.com/tides/web.git", "https://gitlab.com/tides/web"),
            // A branch and a folder, as the builder's git contexts and web sites write them.
            ("https://github.com/tides/web.git#master:api", "https://github.com/tides/web"),
            ("https://github.com/tides/web?tab=readme#usage", "https://github.com/tides/web"),
            ("https://github.com/tides/web/tree/master/services/api", "https://github.com/tides/web"),
            ("https://github.com/tides/web/blob/master/Dockerfile", "https://github.com/tides/web"),
            ("https://tides.ghe.com/tides/web/tree/master", "https://tides.ghe.com/tides/web"),
            ("https://bitbucket.org/tides/web/src/master/api", "https://bitbucket.org/tides/web"),
            ("https://gitlab.com/tides/shore/web/-/tree/master/api", "https://gitlab.com/tides/shore/web"),
            ("https://git.example.com/tides/web/-/tree/master/api", "https://git.example.com/tides/web"),
            // Of others nothing more is known, and so nothing more is cut.
            ("https://git.example.com/~ada/web/tree/master", "https://git.example.com/~ada/web/tree/master"),
        ] {
            assert_eq!(web_address(source).as_deref(), Some(expected), "{source}");
        }
    }

    #[test]
    fn what_is_not_plainly_a_repository_on_the_web_is_none() {
        for source in [
            "",
            "tides/web",
            "github.com/tides/web",
            "http://github.com/tides/web",
            "ftp://github.com/tides/web",
            "file:///srv/git/web",
            "javascript:alert(1)",
            "javascript://github.com/%0Aalert(1)",
            "data:text/html,hello",
            "https://github.com",
            "https://github.com/",
            "https:///tides/web",
            "https://github.com/.git",
            "https://gitlab.com/tides/-.git",
            "https://github.com/tides/../../login",
            "https://github.com/tides/%2e%2e",
            "https://github.com/tides/we b",
            "https://github.com/ti\ndes/web",
            "https://github.com/tides/w\u{202e}eb",
            "https://github.com/tides/web|free gifts>",
            "https://[::1]/tides/web",
            "https://github.com:port/tides/web",
            "https://github.com:+443/tides/web",
            "https://github.com:99999/tides/web",
            "https://.github.com/tides/web",
            // A password with a slash in it: what follows must not pass for the path.
            "https://ada:pass/word@github.com/tides/web",
        ] {
            assert_eq!(web_address(source), None, "{source:?}");
        }
        assert_eq!(web_address(&format!("https://example.com/{}", "x".repeat(ADDRESS_CHARS_MAX))), None);
    }

    #[test]
    fn only_a_host_that_says_what_it_is_is_a_known_forge() {
        for (address, expected) in [
            ("https://github.com/tides/web", Some(Forge::GitHub)),
            ("https://github.example.com:8443/tides/web", Some(Forge::GitHub)),
            ("https://tides.ghe.com/tides/web", Some(Forge::GitHub)),
            ("https://gitlab.com/tides/shore/web", Some(Forge::GitLab)),
            ("https://gitlab.example.com/tides/web", Some(Forge::GitLab)),
            ("https://bitbucket.org/tides/web", Some(Forge::Bitbucket)),
            ("https://bitbucket.example.com/projects/TIDES/repos/web", None),
            ("https://git.example.com/tides/web", None),
            ("https://codeberg.org/tides/web", None),
            ("https://notgithub.com/tides/web", None),
            ("https://github.com/tides", None),
        ] {
            assert_eq!(Forge::of(address), expected, "{address}");
        }
    }

    proptest! {
        #[test]
        fn an_address_is_plain_https_and_stays_as_it_is(
            source in "(ssh://|https://|git@)((gitlab|git)\\.[a-z]{1,3}|\\PC{0,10})[:/][a-z/.-]{0,20}(/-/|\\.git)*",
            any in ".{0,60}",
        ) {
            for source in [source, any] {
                let Some(address) = web_address(&source) else { continue };
                prop_assert!(address.starts_with("https://"));
                let safe = |byte: u8| is_of_name(byte) || byte == b'/' || byte == b':';
                prop_assert!(address.bytes().all(safe), "{address}");
                prop_assert_eq!(web_address(&address), Some(address));
            }
        }

        #[test]
        fn no_credential_comes_through(
            user in "[a-z]{0,5}", secret in "SECRET[\\w@:#?/ %.]{0,12}", host in "git(hub|lab)?\\.[a-z]{2,5}",
        ) {
            let address = web_address(&format!("https://{user}:{secret}@{host}/tides/web.git"));
            let leaked = address.as_deref().is_some_and(|address| address.contains("SECRET"));
            prop_assert!(!leaked, "{address:?}");
        }
    }
}
