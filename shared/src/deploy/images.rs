//! The images of one invocation: services that follow a repository in the same way share what was read from ECR.
//!
//! What a tag points to may change at any moment. An answer is good for a service if it was asked for after the
//! service's history was read: should another handler act on a newer answer in between, the history's generation is
//! outdated, and our write is refused. An answer from before would let an older image win.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use tokio::sync::Mutex;

use crate::ecr::{Ecr, Found, Image};
use crate::error::Error;
use crate::image::EcrRepository;
use crate::manifest::Platforms;
use crate::policy::Policy;

/// What a policy selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidate {
    /// This image.
    Image {
        /// The image.
        image: Image,
        /// The tag by which it was selected.
        tag: String,
    },
    /// No image.
    Nothing,
    /// An image that can't be pulled.
    Archived,
    /// The repository does not exist.
    NoRepository,
}

/// What a policy selects, and from what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The candidate.
    pub candidate: Candidate,
    /// The repository's images, where the policy needs to see them all.
    pub listing: Vec<Image>,
}

impl Selection {
    /// Of a service that follows nothing.
    pub(super) const NONE: Self = Self { candidate: Candidate::Nothing, listing: Vec::new() };

    /// The candidate's digest, or nothing.
    #[must_use]
    pub fn digest(&self) -> &str {
        match &self.candidate {
            Candidate::Image { image, .. } => &image.digest,
            _ => "",
        }
    }

    /// The tag by which the candidate was selected, or nothing.
    #[must_use]
    pub fn tag(&self) -> &str {
        match &self.candidate {
            Candidate::Image { tag, .. } => tag,
            _ => "",
        }
    }
}

/// A moment of this invocation, for telling before from after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

/// A place for an answer, held while it is asked for, so that it is asked for once.
type Slot<T> = Arc<Mutex<Option<T>>>;
type Slots<K, T> = std::sync::Mutex<BTreeMap<K, Slot<T>>>;

/// Images by repository and policy.
#[derive(Debug)]
pub(super) struct Images<'a> {
    ecr: &'a Ecr,
    moments: AtomicU64,
    selections: Slots<(EcrRepository, String), (Moment, Arc<Selection>)>,
    platforms: Slots<String, Platforms>,
}

impl<'a> Images<'a> {
    /// The moment before all others: any answer of this invocation will do.
    pub(super) const BEGINNING: Moment = Moment(0);

    pub(super) fn new(ecr: &'a Ecr) -> Self {
        Self {
            ecr,
            moments: AtomicU64::new(1),
            selections: std::sync::Mutex::default(),
            platforms: std::sync::Mutex::default(),
        }
    }

    /// This moment.
    pub(super) fn now(&self) -> Moment {
        Moment(self.moments.fetch_add(1, Ordering::Relaxed))
    }

    /// What `policy` selects, as ECR said it after the moment `after`.
    pub(super) async fn selected(
        &self,
        repository: &EcrRepository,
        policy: &Policy,
        after: Moment,
    ) -> Result<Arc<Selection>, Error> {
        let slot = slot(&self.selections, (repository.clone(), policy.to_string()));
        let mut slot = slot.lock().await;
        if let Some((_, known)) = slot.as_ref().filter(|(asked, _)| *asked > after) {
            return Ok(Arc::clone(known));
        }
        let asked = self.now();
        let selection = Arc::new(self.select(repository, policy).await?);
        *slot = Some((asked, Arc::clone(&selection)));
        Ok(selection)
    }

    async fn select(&self, repository: &EcrRepository, policy: &Policy) -> Result<Selection, Error> {
        if let Policy::Tag(tag) = policy {
            let candidate = match self.ecr.image_of_tag(repository, tag).await? {
                Found::Image(image) => Candidate::Image { image, tag: tag.clone() },
                Found::Nothing => Candidate::Nothing,
                Found::Archived => Candidate::Archived,
                Found::NoRepository => Candidate::NoRepository,
            };
            return Ok(Selection { candidate, listing: Vec::new() });
        }
        let Some(listing) = self.ecr.tagged_images(repository).await? else {
            return Ok(Selection { candidate: Candidate::NoRepository, listing: Vec::new() });
        };
        let newest = policy.newest(&listing);
        let candidate = newest
            .map_or(Candidate::Nothing, |(image, tag)| Candidate::Image { image: image.clone(), tag: tag.to_owned() });
        Ok(Selection { candidate, listing })
    }

    /// The platforms of an image. They never change, but may be out of reach.
    pub(super) async fn platforms(&self, repository: &EcrRepository, digest: &str) -> Platforms {
        let slot = slot(&self.platforms, digest.to_owned());
        let mut slot = slot.lock().await;
        if let Some(known) = slot.as_ref() {
            return known.clone();
        }
        let platforms = self.ecr.platforms(repository, digest).await;
        let platforms = platforms.unwrap_or_else(|error| Platforms::Unknown(error.to_string()));
        *slot = Some(platforms.clone());
        platforms
    }
}

fn slot<K: Ord, T>(slots: &Slots<K, T>, key: K) -> Slot<T> {
    let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(slots.entry(key).or_insert_with(|| Arc::new(Mutex::new(None))))
}
