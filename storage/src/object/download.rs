//! Whole objects of any size, read in parts that are under way at once and come in order.

use std::io;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{GetOptions, ObjectStore};

use super::{ObjectError, ObjectInfo, Objects};
use crate::object::objects::blocking;

/// Bytes of a part: one request.
const PART_BYTES: u64 = 4 << 20;

/// Parts of one object that are under way at once. With their size this bounds what a download holds in memory: 16 MiB.
const PARTS_AT_ONCE: usize = 4;

/// Why an object was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The store did not give it.
    #[error(transparent)]
    Store(#[from] ObjectError),
    /// What was read could not be put where it belongs.
    #[error("failed to keep what was read")]
    Keep(#[source] io::Error),
}

impl Objects {
    /// Reads an object as it was when it was looked at, and hands its bytes to `take`, in order. An object that has another
    /// content meanwhile is refused, whichever part it is noticed in.
    ///
    /// # Errors
    ///
    /// [`DownloadError`]; then `take` has had some of the bytes, or none.
    pub fn download(
        &self,
        object: &ObjectInfo,
        mut take: impl FnMut(&[u8]) -> io::Result<()> + Send,
    ) -> Result<(), DownloadError> {
        let all = move || async move {
            let starts = (0..object.bytes).step_by(PART_BYTES as usize);
            let parts = starts.map(|start| self.part(object, start, (start + PART_BYTES).min(object.bytes)));
            let mut parts = stream::iter(parts).buffered(PARTS_AT_ONCE);
            while let Some(bytes) = parts.try_next().await? {
                take(&bytes).map_err(DownloadError::Keep)?;
            }
            Ok(())
        };
        blocking(all)?
    }

    async fn part(&self, object: &ObjectInfo, start: u64, end: u64) -> Result<Bytes, ObjectError> {
        let named = |error| self.named("read", &object.key, error);
        let options = GetOptions { if_match: object.etag.clone(), ..GetOptions::default() };
        let options = options.with_range(Some(start..end));
        let found = self.store.get_opts(&self.listed_path(&object.key), options).await.map_err(named)?;
        // Not every store looks at the condition.
        let same = found.meta.size == object.bytes && (object.etag.is_none() || found.meta.e_tag == object.etag);
        let changed = || ObjectError::Changed { key: self.full(&object.key) };
        if !same {
            return Err(changed());
        }
        let bytes = found.bytes().await.map_err(named)?;
        if bytes.len() as u64 == end - start { Ok(bytes) } else { Err(changed()) }
    }
}
