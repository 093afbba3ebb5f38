//! Long runs of characters that look random: keys and tokens that no name gives away.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex_lite::{Captures, Regex};

use super::{MASK, compiled};

/// Runs shorter than this are left alone.
const RUN_CHARS_MIN: usize = 32;

/// Pieces of a run shorter than this are not judged by themselves. The pieces of a UUID have twelve characters at most.
const PIECE_CHARS_MIN: usize = 20;

/// A run, with what says in front of it that it is a digest, a commit or a name: `sha256:`, npm's `sha512-`, the word
/// `commit`, the name of an image in ECR, whose tag it is then, or the beginning of an ARN.
static RUN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    compiled(
        r"(?x)
        ( (?: sha(?:1|256|384|512)[:-] | \b(?:[Cc]ommit|[Rr]evision|[Rr]ev|[Ss]ha)(?:\ |:\ ?|=|/|@)
            | \.dkr\.ecr\.[a-z0-9./_-]*: | arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]*:(?:[a-z-]+:)? )? )
        ( [A-Za-z0-9+/_=-]{32,} )",
    )
});

/// `line` without such runs.
pub(super) fn without(line: &str) -> Cow<'_, str> {
    let is_of_run = |byte: u8| byte.is_ascii_alphanumeric() || b"+/_=-".contains(&byte);
    if line.as_bytes().split(|byte| !is_of_run(*byte)).all(|run| run.len() < RUN_CHARS_MIN) {
        return Cow::Borrowed(line);
    }
    let Some(run) = &*RUN else { return Cow::Borrowed(MASK) };
    run.replace_all(line, |found: &Captures<'_>| {
        let group = |index| found.get(index).map_or("", |group| group.as_str());
        let (before, run) = (group(1), group(2));
        match is_public(before, run) {
            true => format!("{before}{run}"),
            false => format!("{before}{}", judged(run)),
        }
    })
}

/// Whether a run is no secret, by what stands before it, if it looks as it should then, or because CloudFormation made
/// it for something that the CDK has named: the name, eight digits, and a dozen characters.
fn is_public(before: &str, run: &str) -> bool {
    let is_hex = || run.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    match before.chars().last() {
        Some('-') => true,
        Some(_) if before.starts_with("arn:") => true,
        Some(_) if before.starts_with("sha") => is_hex(),
        Some(_) if run.len() == 40 => is_hex(),
        _ => run.rsplit_once('-').is_some_and(|(name, suffix)| {
            let is_digit = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
            let has_suffix =
                (12..=13).contains(&suffix.len()) && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric());
            has_suffix && name.len() > 8 && name.bytes().rev().take(8).all(is_digit)
        }),
    }
}

fn judged(run: &str) -> Cow<'_, str> {
    if is_random(run) {
        return Cow::Borrowed(MASK);
    }
    if !pieces(run).any(is_random_piece) {
        return Cow::Borrowed(run);
    }
    // A path or a name with a random piece: only that is masked. What is left is judged again, as it stands then.
    let mut left = String::with_capacity(run.len());
    let mut calm = String::new();
    for part in run.split_inclusive(is_separator) {
        let piece = part.trim_end_matches(is_separator);
        if is_random_piece(piece) {
            left.push_str(calmed(&calm));
            calm.clear();
            left.push_str(MASK);
            calm.push_str(part.strip_prefix(piece).unwrap_or_default());
        } else {
            calm.push_str(part);
        }
    }
    left.push_str(calmed(&calm));
    Cow::Owned(left)
}

fn calmed(rest: &str) -> &str {
    if rest.len() >= RUN_CHARS_MIN && is_random(rest) { MASK } else { rest }
}

fn is_separator(character: char) -> bool {
    !character.is_ascii_alphanumeric()
}

fn pieces(run: &str) -> impl Iterator<Item = &str> {
    run.split(is_separator)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Lower,
    Upper,
    Digit,
}

fn class(byte: u8) -> Class {
    match byte {
        b'0'..=b'9' => Class::Digit,
        b'A'..=b'Z' => Class::Upper,
        _ => Class::Lower,
    }
}

/// How often neighbours are of different classes, of how many neighbours.
fn changes(piece: &str, counts: impl Fn(Class, Class) -> bool) -> (usize, usize) {
    let neighbours = piece.bytes().zip(piece.bytes().skip(1));
    let changed = neighbours.filter(|(one, next)| counts(class(*one), class(*next))).count();
    (changed, piece.len().saturating_sub(1))
}

/// Whether a run has the mix of cases and digits of base64. There nearly two thirds of all neighbours are of different
/// classes, in names written `LikeThis` a third at most; in between, the number of different characters decides.
/// Separators don't count, or every path of short names would be random.
fn is_random(run: &str) -> bool {
    let all = pieces(run).map(|piece| changes(piece, |one, next| one != next));
    let (changed, neighbours) = all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let different: BTreeSet<u8> = run.bytes().filter(u8::is_ascii_alphanumeric).collect();
    let has = |wanted| different.iter().any(|byte| class(*byte) == wanted);
    let is_mixed = changed * 5 >= neighbours * 2 || changed * 10 >= neighbours * 3 && different.len() >= 23;
    neighbours >= PIECE_CHARS_MIN && is_mixed && has(Class::Lower) && has(Class::Upper)
}

/// Whether a piece goes to and fro between letters and digits, as hexadecimal numbers do and names don't.
fn is_random_piece(piece: &str) -> bool {
    let (changed, _) = changes(piece, |one, next| (one == Class::Digit) != (next == Class::Digit));
    piece.len() >= PIECE_CHARS_MIN && changed >= 4
}
