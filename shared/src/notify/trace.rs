//! Where the images of a deployment come from, for people: the commit of the new one and of the one before.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::join;

use super::Notifier;
use crate::error::Error;
use crate::image::EcrRepository;
use crate::provenance::{self, Manifest, Provenance};
use crate::record::{History, Record, State};

/// How long people wait for it at most: the message is worth more than the commit in it.
const TIME_MAX: Duration = Duration::from_secs(6);

impl Notifier {
    /// `record` with the provenance of its images, which is written down beside its state. What can't be learnt now is
    /// tried again when the record is told the next time.
    pub(super) async fn traced(&self, record: Record, history: &History, deadline: DateTime<Utc>) -> Record {
        let is_wanted = record.provenance.is_none() && !record.digest.is_empty() && record.state != State::Skipped;
        if !is_wanted || !self.announcer.owes(&record) || !self.platform.has_time(deadline, TIME_MAX) {
            return record;
        }
        let before = |digest: &str| history.latest_of(digest).filter(|before| before.id != record.id);
        let known = record.digest_from.as_deref().and_then(before);
        let from = async {
            match (known.and_then(|known| known.provenance.clone()), &record.digest_from) {
                (Some(known), _) => Ok(Some(known)),
                (None, Some(digest)) => {
                    // Others may have deployed a tag.
                    let tag = known.map_or(digest.as_str(), |known| &known.tag);
                    self.provenance(&record, digest, tag).await.map(Some)
                }
                (None, None) => Ok(None),
            }
        };
        let both = join(self.provenance(&record, &record.digest, &record.tag), from);
        let Some((to, from)) = self.platform.within(TIME_MAX, Box::pin(both)).await else { return record };
        let (to, from) = match (to, from) {
            (Ok(to), Ok(from)) => (to, from),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(service = %record.service_ref(), %error, "an image does not tell where it comes from");
                return record;
            }
        };
        let tag_from = known.map(|known| known.tag.as_str()).filter(|tag| !tag.is_empty());
        match self.store.traced(&record, &to, from.as_ref(), tag_from).await {
            Ok(Some(traced)) => traced,
            Ok(None) => record,
            Err(error) => {
                tracing::warn!(service = %record.service_ref(), %error, "where the image comes from is not written down");
                record
            }
        }
    }

    /// What the image `digest` says of its origin, and its tag where the image can't be asked.
    async fn provenance(&self, record: &Record, digest: &str, tag: &str) -> Result<Provenance, Error> {
        let of_tag = Provenance::of_tag(tag);
        if !digest.starts_with("sha256:") {
            return Ok(of_tag);
        }
        match self.of_image(record, digest).await {
            Err(error) if !error.is_transient() => {
                tracing::warn!(service = %record.service_ref(), %error, "the image can't be asked where it comes from");
                Ok(of_tag)
            }
            of_image => Ok(of_image?.or(of_tag)),
        }
    }

    /// What the labels of an image say, then its annotations, then those of its index.
    async fn of_image(&self, record: &Record, digest: &str) -> Result<Provenance, Error> {
        let (region, account) = record.service_ref().home()?;
        let repository = EcrRepository { account, region, name: record.repository.clone() };
        let Some(mut manifest) = self.manifest(&repository, digest).await? else { return Ok(Provenance::default()) };
        let mut annotations = manifest.annotations().clone();
        if let Some(child) = manifest.child_for(None).map(str::to_owned) {
            let Some(of_child) = self.manifest(&repository, &child).await? else {
                return Ok(annotations);
            };
            annotations = of_child.annotations().clone().or(annotations);
            manifest = of_child;
        }
        let labels = match manifest.config_digest() {
            Some(config) => self.labels(&repository, config).await?,
            None => Provenance::default(),
        };
        Ok(labels.or(annotations))
    }

    async fn manifest(&self, repository: &EcrRepository, digest: &str) -> Result<Option<Manifest>, Error> {
        let body = self.ecr.manifest(repository, digest).await?;
        Ok(body.ok().and_then(|manifest| provenance::read_manifest(&manifest.body)))
    }

    /// What the labels of an image's configuration say. ECR gives the address of the document, which S3 serves.
    async fn labels(&self, repository: &EcrRepository, config: &str) -> Result<Provenance, Error> {
        let url = self.ecr.layer_url(repository, config).await?;
        let unreadable = |reason: &str| Error::Sink {
            sink: "the image's configuration",
            reason: reason.to_owned(),
            transient: true,
        };
        let answer = self.http.get(&url).await.map_err(unreadable)?;
        match answer.status {
            200 if provenance::matches_digest(config, &answer.body) => Ok(provenance::of_config(&answer.body)),
            200 => Err(unreadable("it is not the document of this digest")),
            status => Err(unreadable(&format!("HTTP status {status}"))),
        }
    }
}
