//! Which artifact a job file names: asked before the file is checked, because what the artifact has decides what the
//! file may say.

use super::context::{ArtifactPlace, ParseContext};
use super::fault::Faults;
use super::{read, tree};

/// The artifact that a job file names; `None` where it names none, or where [`super::parse`] has faults to tell.
pub fn artifact(text: &str, base_dir: &str) -> Option<ArtifactPlace> {
    let mut faults = Faults::default();
    let root = tree::read(text, &mut faults).ok()?;
    let context = ParseContext { base_dir: base_dir.to_owned(), ..ParseContext::default() };
    read::artifact_place(&root, &context, &mut faults)?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ContentHash;

    fn named(artifact: &str) -> Option<ArtifactPlace> {
        artifact_of(&format!("version: 1\nkind: train\ntrain:\n  entry: my\n  {artifact}\n"))
    }

    fn artifact_of(text: &str) -> Option<ArtifactPlace> {
        artifact(text, "/jobs")
    }

    #[test]
    fn paths_start_at_the_job_file_and_hashes_are_themselves() {
        let path = |path: &str| Some(ArtifactPlace::Path(path.to_owned()));
        assert_eq!(named("artifact: target/debug/mine"), path("/jobs/target/debug/mine"));
        assert_eq!(named("artifact: \"file:///opt/mine\""), path("/opt/mine"));
        let hash = ContentHash::new([9; 32]);
        assert_eq!(named(&format!("artifact: \"{hash}\"")), Some(ArtifactPlace::Content(hash)));
        let of_actors = artifact_of("version: 1\nkind: actors\nactors: {main: count, artifact: mine}\n");
        assert_eq!(of_actors, path("/jobs/mine"));
    }

    #[test]
    fn what_names_none_gives_none() {
        for text in ["artifact: [a]", "artifact: \"blake3:12\"", "artifact: \"s3://a/b\"", "epochs: 1"] {
            assert_eq!(named(text), None, "{text}");
        }
        assert_eq!(artifact_of("train: ["), None);
    }
}
