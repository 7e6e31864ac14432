//! The stored values of samples, row after row: in memory, or beyond a limit in a file.

use super::store::{StoreWriter, StoredRows};
use super::{DataError, Storage, Target, Targets};

/// The stored values of all samples, sample after sample.
#[derive(Debug)]
pub enum Rows {
    /// One byte a value, where the source is bytes.
    Bytes(Vec<u8>),
    /// Floats; NaN where a value is missing.
    Floats(Vec<f32>),
    /// In a file.
    Stored(StoredRows),
}

/// The stored values of one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Row<'a> {
    /// One byte a value.
    Bytes(&'a [u8]),
    /// Floats.
    Floats(&'a [f32]),
}

/// How a value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Byte,
    Float,
}

impl Width {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Byte => 1,
            Self::Float => size_of::<f32>(),
        }
    }
}

impl Rows {
    /// Whether values are floats.
    pub fn is_wide(&self) -> bool {
        match self {
            Self::Bytes(_) => false,
            Self::Floats(_) => true,
            Self::Stored(stored) => stored.is_wide(),
        }
    }

    /// Hands on the rows of these samples, of `width` values each, in this order.
    ///
    /// # Errors
    ///
    /// [`DataError::Unreadable`] where they lie in a file that cannot be read.
    ///
    /// # Panics
    ///
    /// If there is no sample with one of the ids.
    pub fn visit(&self, ids: &[u32], width: usize, mut visit: impl FnMut(Row<'_>)) -> Result<(), DataError> {
        let range = |id: u32| id as usize * width..(id as usize + 1) * width;
        match self {
            Self::Bytes(bytes) => ids.iter().for_each(|&id| visit(Row::Bytes(&bytes[range(id)]))),
            Self::Floats(floats) => ids.iter().for_each(|&id| visit(Row::Floats(&floats[range(id)]))),
            Self::Stored(stored) if stored.is_wide() => {
                let mut floats = vec![0f32; ids.len() * width];
                stored.read(ids, bytemuck::cast_slice_mut(&mut floats))?;
                floats.chunks_exact(width).for_each(|row| visit(Row::Floats(row)));
            }
            Self::Stored(stored) => {
                let mut bytes = vec![0u8; ids.len() * width];
                stored.read(ids, &mut bytes)?;
                bytes.chunks_exact(width).for_each(|row| visit(Row::Bytes(row)));
            }
        }
        Ok(())
    }
}

/// Takes rows one after the other, in memory up to a limit, then into a file.
pub(super) struct RowsBuilder<'a> {
    width: Width,
    storage: &'a Storage,
    memory: Rows,
    file: Option<StoreWriter>,
    targets: Targets,
    hasher: blake3::Hasher,
}

/// Rows that are complete.
pub(super) struct Built {
    pub(super) rows: BuiltRows,
    pub(super) width: Width,
    pub(super) targets: Targets,
    /// Digest of the rows' values.
    pub(super) digest: [u8; 32],
}

/// Where they are.
pub(super) enum BuiltRows {
    Memory(Rows),
    File(Box<StoreWriter>),
}

impl<'a> RowsBuilder<'a> {
    pub(super) fn new(width: Width, storage: &'a Storage) -> Self {
        let memory = match width {
            Width::Byte => Rows::Bytes(Vec::new()),
            Width::Float => Rows::Floats(Vec::new()),
        };
        Self { width, storage, memory, file: None, targets: Targets::default(), hasher: blake3::Hasher::new() }
    }

    /// Adds the target of the next sample. One data set has one kind.
    pub(super) fn push_target(&mut self, target: Target) {
        match (&mut self.targets, target) {
            (Targets::Classes(classes), Target::Class(class)) => classes.push(class),
            (Targets::Values(values), Target::Value(value)) => values.push(value),
            (targets, Target::Value(value)) => {
                assert!(targets.is_empty(), "a data set has classes or values, not both");
                *targets = Targets::Values(vec![value]);
            }
            (Targets::Values(_), Target::Class(_)) => unreachable!("a data set has classes or values, not both"),
        }
    }

    /// Adds rows of bytes.
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        debug_assert_eq!(self.width, Width::Byte);
        self.hasher.update(bytes);
        if let Some(file) = &mut self.file {
            return file.write(bytes);
        }
        if let Rows::Bytes(memory) = &mut self.memory {
            memory.extend_from_slice(bytes);
        }
        self.spill()
    }

    /// Adds rows of floats; where bytes are stored, they are whole numbers from 0 to 255.
    pub(super) fn push_floats(&mut self, floats: &[f32]) -> Result<(), DataError> {
        if self.width == Width::Byte {
            let bytes: Vec<u8> = floats.iter().map(|&value| value as u8).collect();
            return self.push_bytes(&bytes);
        }
        let bytes = bytemuck::cast_slice(floats);
        self.hasher.update(bytes);
        if let Some(file) = &mut self.file {
            return file.write(bytes);
        }
        if let Rows::Floats(memory) = &mut self.memory {
            memory.extend_from_slice(floats);
        }
        self.spill()
    }

    fn spill(&mut self) -> Result<(), DataError> {
        let bytes: &[u8] = match &self.memory {
            Rows::Bytes(bytes) => bytes,
            Rows::Floats(floats) => bytemuck::cast_slice(floats),
            Rows::Stored(_) => &[],
        };
        if bytes.len() as u64 <= self.storage.memory_max {
            return Ok(());
        }
        let mut file = StoreWriter::create(self.storage)?;
        file.write(bytes)?;
        self.file = Some(file);
        self.memory = Rows::Bytes(Vec::new());
        Ok(())
    }

    /// The end of the rows.
    pub(super) fn finish(self) -> Built {
        let rows = match self.file {
            Some(file) => BuiltRows::File(Box::new(file)),
            None => BuiltRows::Memory(self.memory),
        };
        Built { rows, width: self.width, targets: self.targets, digest: *self.hasher.finalize().as_bytes() }
    }
}
