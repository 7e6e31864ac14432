//! Which GPUs of which node are free, and finding a place for so many of them.

use super::view::{GpuTypeIndex, GpuTypeView, Placement};

/// The free GPUs of every node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeNodes {
    by_type: Vec<Vec<u32>>,
    per_node: Vec<u32>,
    nodes_max: Vec<u32>,
}

impl FreeNodes {
    /// An empty cluster.
    pub fn all(gpu_types: &[GpuTypeView]) -> Self {
        Self {
            by_type: gpu_types.iter().map(|gpu| vec![gpu.gpus_per_node; gpu.nodes as usize]).collect(),
            per_node: gpu_types.iter().map(|gpu| gpu.gpus_per_node).collect(),
            nodes_max: gpu_types.iter().map(|gpu| gpu.nodes_per_job_max).collect(),
        }
    }

    /// The free GPUs of a type.
    pub fn count(&self, gpu_type: GpuTypeIndex) -> u32 {
        self.by_type[gpu_type.0].iter().sum()
    }

    /// Takes exactly these, if all of them are free.
    pub fn take(&mut self, placement: &Placement) -> bool {
        let Some(free) = self.by_type.get_mut(placement.gpu_type.0) else { return false };
        let fits = placement.nodes.iter().all(|(node, gpus)| free.get(*node as usize).is_some_and(|free| free >= gpus));
        if fits {
            for (node, gpus) in &placement.nodes {
                free[*node as usize] -= gpus;
            }
        }
        fits
    }

    /// Gives these back.
    pub fn give_back(&mut self, placement: &Placement) {
        for (node, gpus) in &placement.nodes {
            self.by_type[placement.gpu_type.0][*node as usize] += gpus;
        }
    }

    /// Takes `gpus` of a type on as few nodes as possible: whole nodes first, the rest where it leaves the smallest gap.
    /// `None` where that is not free; with [`Spread::Anywhere`] also more nodes than needed are used, fullest first.
    pub fn find(&mut self, gpu_type: GpuTypeIndex, gpus: u32, spread: Spread) -> Option<Placement> {
        let packed = self.packed(gpu_type, gpus);
        let nodes = match spread {
            Spread::FewestNodes => packed?,
            Spread::Anywhere => packed.or_else(|| self.scattered(gpu_type, gpus))?,
        };
        let placement = Placement { gpu_type, nodes };
        let taken = self.take(&placement);
        debug_assert!(taken, "what was found free is free");
        Some(placement)
    }

    fn packed(&self, gpu_type: GpuTypeIndex, gpus: u32) -> Option<Vec<(u32, u32)>> {
        let free = self.by_type.get(gpu_type.0)?;
        let per_node = self.per_node[gpu_type.0].max(1);
        let (whole, rest) = (gpus / per_node, gpus % per_node);
        if gpus == 0 || gpus.div_ceil(per_node) > self.nodes_max[gpu_type.0] {
            return None;
        }
        let mut nodes: Vec<(u32, u32)> =
            (0..).zip(free).filter(|(_, free)| **free == per_node).map(|(node, _)| (node, per_node)).collect();
        if nodes.len() < whole as usize {
            return None;
        }
        nodes.truncate(whole as usize);
        if rest > 0 {
            let taken = |node: u32| nodes.iter().any(|used| used.0 == node);
            let candidates = (0..).zip(free).filter(|(node, free)| **free >= rest && !taken(*node));
            let (node, _) = candidates.min_by_key(|(node, free)| (**free, *node))?;
            nodes.push((node, rest));
            nodes.sort_unstable();
        }
        Some(nodes)
    }

    fn scattered(&self, gpu_type: GpuTypeIndex, gpus: u32) -> Option<Vec<(u32, u32)>> {
        let free = self.by_type.get(gpu_type.0)?;
        let mut order: Vec<(u32, u32)> = (0..).zip(free.iter().copied()).filter(|(_, free)| *free > 0).collect();
        order.sort_by_key(|(node, free)| (std::cmp::Reverse(*free), *node));
        let mut left = gpus;
        let mut nodes = Vec::new();
        for (node, free) in order {
            let taken = free.min(left);
            if taken > 0 {
                nodes.push((node, taken));
                left -= taken;
            }
        }
        nodes.sort_unstable();
        (left == 0 && gpus > 0 && nodes.len() <= self.nodes_max[gpu_type.0] as usize).then_some(nodes)
    }
}

/// Whether a placement may use more nodes than it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// No.
    FewestNodes,
    /// Where nothing better is free.
    Anywhere,
}
