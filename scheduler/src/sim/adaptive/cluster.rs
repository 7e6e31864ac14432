//! The simulated machines.

use crate::policy::adaptive::GpuTypeView;

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
