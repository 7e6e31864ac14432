//! The sample ledger of one epoch: which samples were committed, and in which order (invariant 7).

/// Marks every committed sample; a sample twice, or one that does not exist, is a fault.
#[derive(Debug, Clone)]
pub struct SampleLedger {
    used: Vec<u64>,
    samples: u32,
    committed: u64,
    hasher: blake3::Hasher,
}

/// The ledger does not balance: a defect of Neap or of a worker, never of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Used before in this epoch.
    #[error("sample {0} was committed twice in one epoch")]
    Twice(u32),
    /// There is no such sample.
    #[error("sample {0} does not exist")]
    Unknown(u32),
    /// Not used at the epoch's end.
    #[error("{missing} samples were not committed in this epoch, the first of them {first}")]
    Missing {
        /// How many.
        missing: u64,
        /// The first.
        first: u32,
    },
}

impl SampleLedger {
    /// The ledger of an epoch over `samples` samples.
    pub fn new(samples: u32) -> Self {
        let used = vec![0; (samples as usize).div_ceil(64)];
        Self { used, samples, committed: 0, hasher: blake3::Hasher::new() }
    }

    /// Marks the samples of one step, in their order.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; the job must end then, the ledger is of no use any more.
    pub fn commit(&mut self, ids: &[u32]) -> Result<(), LedgerError> {
        for &id in ids {
            if id >= self.samples {
                return Err(LedgerError::Unknown(id));
            }
            let (word, bit) = (&mut self.used[id as usize / 64], 1 << (id % 64));
            if *word & bit != 0 {
                return Err(LedgerError::Twice(id));
            }
            *word |= bit;
        }
        self.committed += ids.len() as u64;
        self.hasher.update(bytemuck::cast_slice(ids));
        Ok(())
    }

    /// How many samples are committed.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// Closes the epoch: every sample exactly once. Returns the digest over the ids in the order of commits.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Missing`].
    pub fn close(&self) -> Result<[u8; 32], LedgerError> {
        let missing = u64::from(self.samples) - self.committed;
        let unused = |id: &u32| self.used[*id as usize / 64] & (1 << (id % 64)) == 0;
        match (0..self.samples).find(unused) {
            Some(first) => Err(LedgerError::Missing { missing, first }),
            None => Ok(*self.hasher.finalize().as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_balances_only_with_every_sample_once() {
        let mut ledger = SampleLedger::new(70);
        ledger.commit(&(0..69).collect::<Vec<_>>()).unwrap();
        assert_eq!(ledger.close(), Err(LedgerError::Missing { missing: 1, first: 69 }));
        assert_eq!(ledger.clone().commit(&[3]), Err(LedgerError::Twice(3)));
        assert_eq!(ledger.clone().commit(&[70]), Err(LedgerError::Unknown(70)));
        ledger.commit(&[69]).unwrap();
        assert!(ledger.close().is_ok());
    }

    #[test]
    fn the_digest_knows_the_order() {
        let digest = |ids: &[u32]| {
            let mut ledger = SampleLedger::new(3);
            ledger.commit(ids).unwrap();
            ledger.close().unwrap()
        };
        assert_ne!(digest(&[0, 1, 2]), digest(&[1, 0, 2]));
    }
}
