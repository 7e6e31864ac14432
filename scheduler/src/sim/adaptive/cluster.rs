//! The simulated machines.

use std::str::FromStr;

use crate::policy::adaptive::GpuTypeView;

/// The most nodes of a type and GPUs of a node that a description may ask for.
const NODES_MAX: u32 = 100_000;
const GPUS_PER_NODE_MAX: u32 = 64;

/// A cluster: some nodes of some GPU types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSpec {
    /// In the order in which policies see them.
    pub gpu_types: Vec<GpuTypeView>,
}

impl ClusterSpec {
    /// The 64 GPUs of Sia (SOSP'23), section 4: 6 nodes of 4 T4, 3 of 8 RTX 2080 Ti, 2 of 8 A100.
    pub fn sia_heterogeneous() -> Self {
        Self::of(&[("aws", 6, 4), ("rtx", 3, 8), ("dgx-ext", 2, 8)])
    }

    /// The 64 GPUs of Pollux (OSDI'21): 16 nodes of 4 T4.
    pub fn homogeneous_t4() -> Self {
        Self::of(&[("aws", 16, 4)])
    }

    /// Name, nodes and GPUs of each node. One job may span all nodes of a type.
    pub fn of(types: &[(&str, u32, u32)]) -> Self {
        let view = |(name, nodes, gpus_per_node): &(&str, u32, u32)| GpuTypeView {
            name: (*name).to_owned(),
            nodes: *nodes,
            gpus_per_node: *gpus_per_node,
            nodes_per_job_max: *nodes,
        };
        Self { gpu_types: types.iter().map(view).collect() }
    }

    /// So many times the nodes, while one job spans no more than before: there are no measurements of larger ones.
    pub fn scaled(&self, times: u32) -> Self {
        let mut scaled = self.clone();
        for gpu in &mut scaled.gpu_types {
            gpu.nodes *= times;
        }
        scaled
    }

    /// All GPUs.
    pub fn gpus(&self) -> u32 {
        self.gpu_types.iter().map(GpuTypeView::gpus).sum()
    }
}

/// A description of a cluster that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{part}` is not TYPE:NODESxGPUS, as in aws:6x4; several are separated by commas, each type once")]
pub struct ClusterSpecError {
    /// The part.
    pub part: String,
}

impl FromStr for ClusterSpec {
    type Err = ClusterSpecError;

    /// Reads `aws:6x4,rtx:3x8`: 6 nodes of 4 GPUs and 3 nodes of 8.
    fn from_str(text: &str) -> Result<Self, ClusterSpecError> {
        let mut types: Vec<(&str, u32, u32)> = Vec::new();
        for part in text.split(',') {
            let refused = || ClusterSpecError { part: part.to_owned() };
            let (name, size) = part.split_once(':').ok_or_else(refused)?;
            let (nodes, gpus) = size.split_once('x').ok_or_else(refused)?;
            let number = |text: &str, max| text.parse().ok().filter(|count| (1..=max).contains(count));
            let nodes = number(nodes, NODES_MAX).ok_or_else(refused)?;
            let gpus = number(gpus, GPUS_PER_NODE_MAX).ok_or_else(refused)?;
            if name.is_empty() || types.iter().any(|known| known.0 == name) {
                return Err(refused());
            }
            types.push((name, nodes, gpus));
        }
        Ok(Self::of(&types))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_described_in_a_word() {
        assert_eq!("aws:6x4,rtx:3x8,dgx-ext:2x8".parse(), Ok(ClusterSpec::sia_heterogeneous()));
        for text in ["", "aws", "aws:4", "aws:0x4", "aws:4x65", "aws:-1x4", "aws:1x4,aws:2x4", ":1x1", "aws:999999x1"] {
            assert!(text.parse::<ClusterSpec>().is_err(), "{text}");
        }
    }
}
